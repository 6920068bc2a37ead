// A Hugging Face folder as a model and its weights: config.json, and model.safetensors or its shards. Every disagreement
// between config and tensors is found before anything is read, and named from both sides.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError, DataError } from '../common/index.js';
import { elementCount, type Parameter, parameterGraph, type StoredValues, type WeightTarget } from '../engine/index.js';
import { modelFromConfig } from './families.js';
import { initialValues } from './initialise.js';
import type { Model } from './model.js';
import { SafetensorsFile } from './safetensors.js';

/** What is made of a Hugging Face folder. */
export interface CheckpointOptions {
  /** Name of the configuration in the folder. */
  readonly configFile?: string;
  /** The model to fit the files to, made of the one that the folder describes: another head, an adapter's base. */
  readonly as?: (model: Model) => Model;
  /** Heads that the files lack start from this seed, and heads of other tasks in them are left out. Default: both are errors. */
  readonly freshHeads?: number;
}

/** Parameters that belong to a task more than to the model. */
const HEADS = /^(score|classifier|cls|v_head|lm_head|embed_out|qa_outputs|(bert\.)?pooler)\./;

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** Reads config.json of a folder (or the file `configFile` in it). */
export async function readModel(folder: string, configFile = 'config.json'): Promise<Model> {
  return modelFromConfig(await readJson(join(folder, configFile)), join(folder, configFile));
}

/** An open checkpoint whose tensors fit its model. */
export class Checkpoint implements AsyncDisposable {
  readonly model: Model;
  /** Parameters by the model's names, in the model's order. */
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly #sources: ReadonlyMap<string, { readonly file: SafetensorsFile; readonly stored: string }>;
  readonly #files: readonly SafetensorsFile[];

  readonly #seed: number | null;

  private constructor(model: Model, files: readonly SafetensorsFile[], seed: number | null) {
    this.model = model;
    this.#files = files;
    this.parameters = parameterGraph(model).parameters;
    this.#seed = seed;
    this.#sources = matchTensors(model, this.parameters, files, seed !== null);
  }

  /** Opens the checkpoint in `folder`. Throws ConfigError or DataError that says what is missing, unexpected or misshapen. */
  static async open(folder: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
    const described = await readModel(folder, options.configFile);
    const model = options.as ? options.as(described) : described;
    const files: SafetensorsFile[] = [];
    try {
      for (const path of await weightFiles(folder)) files.push(await SafetensorsFile.open(path));
      return new Checkpoint(model, files, options.freshHeads ?? null);
    } catch (error) {
      await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
      throw error;
    }
  }

  /** The values of one parameter as float32. */
  async read(name: string): Promise<Float32Array> {
    const parameter = this.parameters.get(name);
    if (!parameter) throw new ConfigError(name, 'the name of a parameter of the model', name);
    const source = this.#sources.get(name);
    return source ? source.file.readFloats(source.stored) : initialValues(parameter, this.#seed ?? 0);
  }

  /** Loads every parameter that the target has: straight from the files where the target can take that, else one at a time. */
  async loadInto(target: WeightTarget): Promise<void> {
    const byFile = new Map<SafetensorsFile, StoredValues[]>();
    for (const name of this.parameters.keys()) {
      if (target.has?.(name) === false) continue;
      const isDirect = target.loadFile !== undefined && (target.takesFile?.(name) ?? true);
      const source = isDirect ? this.#sources.get(name) : undefined;
      if (!source) {
        target.load(name, await this.read(name));
        continue;
      }
      const { file, stored } = source;
      const tensor = file.tensors.get(stored)!;
      const values = { name, fileOffset: file.fileOffset(tensor), dtype: file.floatType(tensor) };
      const known = byFile.get(file);
      if (known) known.push(values);
      else byFile.set(file, [values]);
    }
    for (const [file, stored] of byFile) {
      await target.loadFile!(file.fd, stored).catch((cause: unknown) => {
        throw new DataError({ place: file.path, detail: (cause as Error).message }, { cause });
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#files.map((file) => file[Symbol.asyncDispose]()));
  }
}

/** model.safetensors, or the shards that model.safetensors.index.json names. */
async function weightFiles(folder: string): Promise<readonly string[]> {
  const indexPath = join(folder, 'model.safetensors.index.json');
  const single = join(folder, 'model.safetensors');
  if (await isFile(single)) return [single];
  if (!(await isFile(indexPath))) {
    const pickled = ['pytorch_model.bin', 'pytorch_model.bin.index.json'];
    for (const name of pickled) {
      if (!(await isFile(join(folder, name)))) continue;
      throw new DataError({
        place: join(folder, name),
        detail:
          'is a pickle, which can run code and is not read. Save the model as safetensors: save_pretrained(…, safe_serialization=True)',
      });
    }
    throw new DataError({ place: folder, detail: 'holds neither model.safetensors nor model.safetensors.index.json' });
  }
  const index = indexSchema.safeParse(await readJson(indexPath));
  if (!index.success) throw new DataError({ place: indexPath, detail: 'must have a weight_map of names to files' });
  const names = [...new Set(Object.values(index.data.weight_map))].sort();
  for (const name of names) {
    // A shard is a plain name: an index must not reach outside its folder.
    if (!/^[\w.-]+\.safetensors$/.test(name)) {
      throw new DataError({
        place: indexPath,
        detail: `names the shard ${JSON.stringify(name)}, which is not a file name`,
      });
    }
  }
  return names.map((name) => join(folder, name));
}

/** What files may call a parameter: with and without the prefix of the base model, behind the names of wrappers, gamma and beta. */
function namesOf(name: string, prefix: string): readonly string[] {
  const bare = name.startsWith(prefix) ? name.slice(prefix.length) : name;
  const plain = [name, bare, prefix + name, `module.${name}`, `model.${name}`];
  return [...plain, ...plain.map(oldNormName)];
}

function matchTensors(
  model: Model,
  parameters: ReadonlyMap<string, Parameter>,
  files: readonly SafetensorsFile[],
  hasFreshHeads: boolean,
) {
  const stored = new Map<string, SafetensorsFile>();
  for (const file of files) {
    for (const name of file.tensors.keys()) {
      if (stored.has(name)) throw new DataError({ place: `${file.path}: ${name}`, detail: 'is in another shard too' });
      stored.set(name, file);
    }
  }
  const place = files[0]!.path;
  const sources = new Map<string, { readonly file: SafetensorsFile; readonly stored: string }>();
  const missing: string[] = [];
  for (const { name, dims } of parameters.values()) {
    const isHead = hasFreshHeads && HEADS.test(name);
    const found = namesOf(name, model.prefix).find((candidate) => stored.has(candidate));
    if (found === undefined) {
      if (!isHead) missing.push(name);
      continue;
    }
    const file = stored.get(found)!;
    stored.delete(found);
    const tensor = file.tensors.get(found)!;
    const { shape } = tensor;
    if (isHead && shape.join() !== dims.join()) continue; // of other labels
    file.floatType(tensor); // any other type is told before something is read
    if (shape.join() !== dims.join()) {
      throw new ConfigError(
        name,
        `[${dims.join(', ')}] by the configuration`,
        shape,
        `${file.path} holds [${shape.join(', ')}]`,
      );
    }
    sources.set(name, { file, stored: found });
  }
  // A tied head may be stored a second time; old files hold masks and tables.
  const isExpected = (name: string) =>
    model.ignoredNames.test(name) ||
    (model.isTied && namesOf(model.outputName, model.prefix).includes(name)) ||
    (hasFreshHeads && HEADS.test(name));
  const unexpected = [...stored.keys()].filter((name) => !isExpected(name));
  if (missing.length > 0 || unexpected.length > 0) {
    const sides = [
      missing.length > 0 ? `lacks ${some(missing)} of the configuration` : '',
      unexpected.length > 0 ? `holds ${some(unexpected)} that the configuration does not know` : '',
    ];
    const hint =
      missing.includes(model.outputName) && !model.isTied && model.labelCount === undefined
        ? '. If the output matrix is the embedding table, set tie_word_embeddings to true'
        : '';
    throw new DataError({ place, detail: sides.filter((side) => side !== '').join(', and ') + hint });
  }
  return sources;
}

/** Files of the TensorFlow era call gains and biases of norms gamma and beta. */
function oldNormName(name: string): string {
  return name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta');
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more tensors` : shown;
}

/** Number of elements of all parameters of a model; a tied matrix counts once. */
export function countParameters(model: Model): number {
  let total = 0;
  for (const { dims } of parameterGraph(model).parameters.values()) total += elementCount(dims);
  return total;
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ?? false;
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new DataError({ place: path, detail: 'cannot be read' }, { cause });
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DataError({ place: path, detail: 'is not JSON' }, { cause });
  }
}
