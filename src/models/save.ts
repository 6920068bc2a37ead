// Writes a model as a Hugging Face folder that Transformers opens: config.json, generation_config.json, model.safetensors.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FloatType, parameterGraph } from '../engine/index.js';
import type { Model } from './model.js';
import { writeSafetensors } from './write-safetensors.js';

const DTYPE_NAMES: Readonly<Record<FloatType, string>> = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' };

/** Saves weights that `read` gives by name, rounded to `dtype`. The folder is made when absent; files in it are replaced. */
export async function saveModel(
  folder: string,
  model: Model,
  read: (name: string) => Float32Array,
  dtype: FloatType = 'f32',
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensors = [...parameterGraph(model).parameters.values()].map(({ name, dims }) => ({
    name,
    shape: dims,
    read: () => read(name),
  }));
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, dtype);
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
