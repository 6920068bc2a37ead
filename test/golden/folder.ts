// A folder of golden vectors: its cases, their tensors, and what kind of folder it is.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { SafetensorsFile } from '#src/models/index.js';

export interface GoldenCase {
  readonly name: string;
  readonly kind: string;
  readonly [key: string]: unknown;
}

export interface GoldenFolder {
  readonly path: string;
  readonly name: string;
  readonly cases: readonly GoldenCase[];
  /** Name of the sibling that has the same weights, for a folder without cases. */
  readonly sameWeightsAs: string | null;
  /** model_type of config.json; null for a folder without a model of its own. */
  readonly modelType: string | null;
  /** Name of the sibling whose weights this folder's adapter is for. */
  readonly base: string | null;
  /** Name of the sibling with the model that the cases are about; null for a folder with its own or without. */
  readonly model: string | null;
  /** Ranges of parameters that no loss depends on. */
  readonly idle: Readonly<Record<string, readonly (readonly [number, number])[]>>;
}

/** Case folders below `path`: itself, or its children. Empty when there are none. */
export function findFolders(path: string): readonly GoldenFolder[] {
  if (!statSync(path).isDirectory()) return [];
  if (existsSync(join(path, 'cases.json'))) return [openFolder(path)];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(path, entry.name, 'cases.json')))
    .map((entry) => openFolder(join(path, entry.name)))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function openFolder(path: string): GoldenFolder {
  const json = JSON.parse(readFileSync(join(path, 'cases.json'), 'utf8'));
  const config = join(path, 'config.json');
  return {
    path,
    name: basename(path),
    cases: json.cases,
    sameWeightsAs: json.same_weights_as ?? null,
    modelType: existsSync(config) ? JSON.parse(readFileSync(config, 'utf8')).model_type : null,
    base: existsSync(join(path, 'adapter_config.json')) ? json.base : null,
    model: existsSync(config) ? null : (json.model ?? null),
    idle: json.idle_parameters ?? {},
  };
}

/** The tensors of one case, read when asked for. */
export class CaseTensors {
  readonly #file: SafetensorsFile;
  readonly #prefix: string;

  constructor(file: SafetensorsFile, caseName: string) {
    this.#file = file;
    this.#prefix = `${caseName}/`;
  }

  /** Names without the case's own. */
  get names(): readonly string[] {
    const all = [...this.#file.tensors.keys()].filter((name) => name.startsWith(this.#prefix));
    return all.map((name) => name.slice(this.#prefix.length));
  }

  has(name: string): boolean {
    return this.#file.tensors.has(this.#prefix + name);
  }

  shape(name: string): readonly number[] {
    return this.#tensor(name).shape;
  }

  floats(name: string): Promise<Float32Array> {
    return this.#file.readFloats(this.#tensor(name).name);
  }

  /** The bytes as stored, for types that are neither. */
  bytes(name: string): Promise<Buffer> {
    const tensor = this.#tensor(name);
    return this.#file.readBytes(tensor.name, 0, tensor.end - tensor.begin);
  }

  /** int64 or uint8, as int32: every integer of the vectors fits. */
  async integers(name: string): Promise<Int32Array> {
    const tensor = this.#tensor(name);
    const bytes = await this.#file.readBytes(tensor.name, 0, tensor.end - tensor.begin);
    if (tensor.dtype === 'U8' || tensor.dtype === 'BOOL') return Int32Array.from(bytes);
    if (tensor.dtype !== 'I64') throw new Error(`${tensor.name} has dtype ${tensor.dtype}`);
    return Int32Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
  }

  #tensor(name: string) {
    const tensor = this.#file.tensors.get(this.#prefix + name);
    if (!tensor) throw new Error(`${this.#file.path} has no tensor ${this.#prefix}${name}`);
    return tensor;
  }
}
