// A model of two layers with random weights, and what evaluation without a cache says of its sequences.
import { type FloatType, Forward, layoutOf, ParameterStore, type TokenBatch } from '#src/engine/index.js';
import { initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';

export const VOCABULARY = 23;

/** Longer than a block of the cache and deeper than a slice of a product. */
export function longModel(family: 'gpt2' | 'llama'): Model {
  const sizes = { vocab_size: VOCABULARY, initializer_range: 0.1, eos_token_id: 2 };
  if (family === 'gpt2') {
    return modelFromConfig({
      ...sizes,
      model_type: family,
      n_embd: 80,
      n_layer: 2,
      n_head: 2,
      n_inner: 800,
      n_positions: 256,
    });
  }
  return modelFromConfig({
    ...sizes,
    model_type: family,
    hidden_size: 96,
    intermediate_size: 500,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 256,
  });
}

export async function withStore(
  model: Model,
  use: (store: ParameterStore) => Promise<void>,
  dtype: FloatType = 'f32',
): Promise<void> {
  const device = native().createDevice({ threads: 2, isa: null, pin: false });
  try {
    using store = new ParameterStore(device, layoutOf(model, dtype));
    initialise(model, 11, store);
    await use(store);
  } finally {
    device.dispose();
  }
}

/** One sequence as a batch of its own, each token labelled with the next. */
function alone(tokens: readonly number[]): TokenBatch {
  const rows = tokens.length;
  return {
    ids: Int32Array.from(tokens),
    positions: Int32Array.from(tokens, (_, t) => t),
    starts: new Int32Array(rows),
    ends: new Int32Array(rows).fill(rows),
    labels: Int32Array.from(tokens, (_, t) => tokens[t + 1] ?? -100),
  };
}

/** Logits behind token `t` and the losses of all tokens but the last. */
export async function evaluated(model: Model, store: ParameterStore, tokens: readonly number[]) {
  using forward = new Forward({ model, rows: tokens.length, hasLogits: true }, store);
  const { logits, tokenLosses } = await forward.run(alone(tokens));
  return { row: (t: number) => logits!.subarray(t * VOCABULARY, (t + 1) * VOCABULARY), tokenLosses };
}
