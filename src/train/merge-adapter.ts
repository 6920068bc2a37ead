// Adds an adapter into its base model, one matrix at a time: neither model is ever whole in memory.
import { copyFile, readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { ConfigError } from '../common/index.js';
import { type FloatType, LowRankSum } from '../engine/index.js';
import {
  Checkpoint,
  classifierConfig,
  loadAdapter,
  type Model,
  mergedWeights,
  modelFromConfig,
  readAdapter,
  savedLabelCount,
  saveModel,
  withAdapter,
} from '../models/index.js';
import { native } from '../native/index.js';

/** Options of {@link mergeAdapter}. */
export interface MergeOptions {
  /** The Hugging Face folder that the adapter was trained on. Default: the one that adapter_config.json names. */
  readonly base?: string;
  /** How weights are stored. Default f32. */
  readonly dtype?: FloatType;
}

/** Files of a folder that are the tokenizer's, not the weights'. */
const TOKENIZER_FILES =
  /^(tokenizer.*|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|.*\.jinja)$/;

/**
 * Writes base + adapter as a plain Hugging Face folder `out`, with the tokenizer of the base. Returns the path. The adapter is a
 * folder as peft saves it.
 */
export async function mergeAdapter(adapter: string, out: string, options: MergeOptions = {}): Promise<string> {
  const settings = await readAdapter(adapter);
  const named = settings.config.base_model_name_or_path;
  const base = options.base ?? (typeof named === 'string' ? named : null);
  if (base === null) throw new ConfigError('base', 'the folder of the base model', base, 'The adapter names none');
  if (resolve(base) === resolve(out)) throw new ConfigError('out', 'another folder than the base', out);
  const labels = await savedLabelCount(adapter);
  await using checkpoint = await Checkpoint.open(
    base,
    labels === null ? {} : { as: (model) => withLabels(model, labels), freshHeads: 0 },
  );
  const model = withAdapter(checkpoint.model, settings);
  const weights = new Map<string, Float32Array>();
  await loadAdapter(adapter, model, { load: (name, values) => void weights.set(name, values) });
  const device = native().createDevice({ threads: availableParallelism(), isa: null, pin: false });
  try {
    using sum = new LowRankSum(device);
    const read = (name: string) => weights.get(name) ?? checkpoint.read(name);
    await saveModel(out, model.base, mergedWeights(model, read, sum), { dtype: options.dtype ?? 'f32' });
  } finally {
    device.dispose();
  }
  for (const file of await readdir(base))
    if (TOKENIZER_FILES.test(file)) await copyFile(join(base, file), join(out, file));
  return out;
}

/** The classifier that the head beside an adapter belongs to: the base itself, or the base with a head of unnamed labels. */
function withLabels(base: Model, count: number): Model {
  if (base.labelCount === count) return base;
  const names = Array.from({ length: count }, (_unused, index) => `LABEL_${index}`);
  const problemType = count === 1 ? 'regression' : 'single_label_classification';
  return modelFromConfig(classifierConfig(base, names, problemType));
}
