// Small models and random batches for the engine's tests.
import { type AdamWSettings, meshOf, type TokenBatch } from '#src/engine/index.js';
import { type Model, modelFromConfig, seededRandom } from '#src/models/index.js';

const GPT2 = { model_type: 'gpt2', n_layer: 2, n_head: 2, n_embd: 16, n_positions: 64, vocab_size: 37 };
const LLAMA = {
  model_type: 'llama',
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  vocab_size: 37,
};

export const tinyGpt2 = (): Model => modelFromConfig(GPT2);
export const tinyLlama = (): Model => modelFromConfig(LLAMA);

export const OPTIMIZER: AdamWSettings = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0.1,
  maxGradientNorm: 1,
};
export const ALONE = { zeroStage: 0, mesh: meshOf(), rank: 0 } as const;

/** Sequences of the given lengths, packed, then padding up to `rows`. */
export function randomBatch(lengths: readonly number[], rows: number, vocabulary: number, seed: string): TokenBatch {
  const random = seededRandom(seed);
  const batch = {
    ids: new Int32Array(rows),
    positions: new Int32Array(rows),
    starts: Int32Array.from({ length: rows }, (_, t) => t),
    ends: Int32Array.from({ length: rows }, (_, t) => t + 1),
    labels: new Int32Array(rows).fill(-100),
  };
  let start = 0;
  for (const length of lengths) {
    for (let t = start; t < start + length; t++) {
      batch.ids[t] = Math.floor(random() * vocabulary);
      batch.positions[t] = t - start;
      batch.starts[t] = start;
      batch.ends[t] = start + length;
      batch.labels[t] = t % 5 === 0 ? -100 : Math.floor(random() * vocabulary);
    }
    start += length;
  }
  return batch;
}

export function labelled(batch: TokenBatch): number {
  return batch.labels.filter((label) => label !== -100).length;
}
