// Writes a model as a Hugging Face folder that Transformers opens: config.json, generation_config.json, and model.safetensors or
// its shards with their index.
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { DTYPE_BYTES, elementCount, type FloatType, parameterGraph } from '../engine/index.js';
import type { Model } from './model.js';
import { DTYPE_NAMES } from './stored-type.js';
import { type TensorToWrite, writeSafetensors } from './write-safetensors.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

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
  if (!(maxShardBytes >= 1)) throw new ConfigError('maxShardBytes', 'a positive number of bytes', maxShardBytes);
  await mkdir(folder, { recursive: true });
  const tensors = [...parameterGraph(model).parameters.values()].map(({ name, dims }) => ({
    name,
    shape: dims,
    read: () => read(name),
  }));
  await writeWeights(folder, tensors, dtype, maxShardBytes);
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

/** One file, or shards in the order of the model, each as full as it may be; a tensor larger than that has one of its own. */
async function writeWeights(
  folder: string,
  tensors: readonly TensorToWrite[],
  dtype: FloatType,
  maxShardBytes: number,
): Promise<void> {
  const bytesOf = ({ shape }: TensorToWrite) => elementCount(shape) * DTYPE_BYTES[dtype];
  const shards: TensorToWrite[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + bytesOf(tensor) > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += bytesOf(tensor);
  }
  const five = (number: number) => String(number).padStart(5, '0');
  const fileOf = (index: number) =>
    shards.length === 1 ? SINGLE : `model-${five(index + 1)}-of-${five(shards.length)}.safetensors`;
  const written = new Set(shards.map((_, index) => fileOf(index)));
  for (const [index, shard] of shards.entries()) await writeSafetensors(join(folder, fileOf(index)), shard, dtype);
  if (shards.length > 1) {
    const weights = shards.flatMap((shard, index) => shard.map(({ name }) => [name, fileOf(index)] as const));
    const total = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
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
