// Writes a model as a Hugging Face folder that Transformers opens: config.json, generation_config.json, and model.safetensors or
// its shards with their index.
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { DTYPE_BYTES, elementCount, type FloatType, type Parameter, parameterGraph } from '../engine/index.js';
import type { Model } from './model.js';
import { DTYPE_NAMES } from './stored-type.js';
import { inFileOrder, type TensorToWrite, writeSafetensors } from './write-safetensors.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** How weights are written. */
export interface SaveOptions {
  /** What weights are rounded to. Default f32. */
  readonly dtype?: FloatType;
  /** Weights beyond so many bytes go to further files. Default 5 GB, as in Transformers. */
  readonly maxShardBytes?: number;
}

const MAX_SHARD_BYTES = 5e9;

/** Saves weights that `read` gives by name. The folder is made when absent; weights in it are replaced. */
export async function saveModel(
  folder: string,
  model: Model,
  read: (name: string) => Float32Array | Promise<Float32Array>,
  { dtype = 'f32', maxShardBytes = MAX_SHARD_BYTES }: SaveOptions = {},
): Promise<void> {
  const shards = shardsOf(model, dtype, maxShardBytes);
  await mkdir(folder, { recursive: true });
  await writeWeights(
    folder,
    shards.map((shard) => shard.map(({ name, dims }) => ({ name, shape: dims, read: () => read(name) }))),
    dtype,
  );
  const config = {
    ...model.config,
    architectures: [model.architecture],
    dtype: DTYPE_NAMES[dtype],
    torch_dtype: DTYPE_NAMES[dtype],
  };
  const generation = {
    bos_token_id: model.bosTokenId ?? undefined,
    eos_token_id: model.eosTokenIds.length > 1 ? model.eosTokenIds : model.eosTokenIds[0],
    pad_token_id: model.padTokenId ?? undefined,
  };
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  await writeFile(join(folder, 'generation_config.json'), `${JSON.stringify(generation, null, 2)}\n`);
}

/** Names of the weights in the order in which {@link saveModel} reads them. */
export function readingOrder(model: Model, { dtype = 'f32', maxShardBytes = MAX_SHARD_BYTES }: SaveOptions = {}) {
  return shardsOf(model, dtype, maxShardBytes).flatMap((shard) => inFileOrder(shard).map(({ name }) => name));
}

/** All in one, or in the order of the model, each shard as full as it may be; a tensor larger than that has one of its own. */
function shardsOf(model: Model, dtype: FloatType, maxShardBytes: number): readonly (readonly Parameter[])[] {
  if (!(maxShardBytes >= 1)) throw new ConfigError('maxShardBytes', 'a positive number of bytes', maxShardBytes);
  const shards: Parameter[][] = [[]];
  let bytes = 0;
  for (const parameter of parameterGraph(model).parameters.values()) {
    const size = elementCount(parameter.dims) * DTYPE_BYTES[dtype];
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(parameter);
    bytes += size;
  }
  return shards;
}

/** One file, or a file for each shard and their index. */
async function writeWeights(
  folder: string,
  shards: readonly (readonly TensorToWrite[])[],
  dtype: FloatType,
): Promise<void> {
  const five = (number: number) => String(number).padStart(5, '0');
  const fileOf = (index: number) =>
    shards.length === 1 ? SINGLE : `model-${five(index + 1)}-of-${five(shards.length)}.safetensors`;
  const written = new Set(shards.map((_, index) => fileOf(index)));
  for (const [index, shard] of shards.entries()) await writeSafetensors(join(folder, fileOf(index)), shard, dtype);
  if (shards.length > 1) {
    const weights = shards.flatMap((shard, index) => shard.map(({ name }) => [name, fileOf(index)] as const));
    const total = shards.flat().reduce((sum, { shape }) => sum + elementCount(shape) * DTYPE_BYTES[dtype], 0);
    const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(weights.sort()) };
    await writeFile(join(folder, INDEX), `${JSON.stringify(index, null, 2)}\n`);
    written.add(INDEX);
  }
  // Weights of an earlier save would be taken for these, or for parts of them.
  for (const name of await readdir(folder)) {
    const isWeights = name === SINGLE || name === INDEX || /^model-\d{5}-of-\d{5}\.safetensors$/.test(name);
    if (isWeights && !written.has(name)) await rm(join(folder, name));
  }
}
