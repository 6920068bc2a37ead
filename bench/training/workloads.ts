// The models and shapes of the training figures: config.json of each, as Transformers and raylite both read it.
import type { Precision } from './compare.js';

export interface Workload {
  /** `GPT-2 124M`. */
  readonly model: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** Parameters that a token is multiplied with: all but positions and an input embedding of its own. */
  readonly multiplied: number;
  readonly rows: number;
  readonly tokens: number;
  readonly precision: Precision;
}

interface Model {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly multiplied: number;
}

// Dropout is off on both sides, so that both do the same work and reach the same losses.
const GPT2: Model = {
  name: 'GPT-2 124M',
  config: {
    model_type: 'gpt2',
    n_embd: 768,
    n_head: 12,
    n_layer: 12,
    n_positions: 1024,
    vocab_size: 50257,
    layer_norm_epsilon: 1e-5,
    initializer_range: 0.02,
    activation_function: 'gelu_new',
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  },
  multiplied: 123.6e6,
};

const PYTHIA: Model = {
  name: 'Pythia 160M',
  config: {
    model_type: 'gpt_neox',
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
    vocab_size: 50304,
    max_position_embeddings: 2048,
    rotary_pct: 0.25,
    rotary_emb_base: 10000,
    layer_norm_eps: 1e-5,
    hidden_act: 'gelu',
    use_parallel_residual: true,
    tie_word_embeddings: false,
    initializer_range: 0.02,
    hidden_dropout: 0,
    attention_dropout: 0,
  },
  multiplied: 123.7e6,
};

const LLAMA: Model = {
  name: 'LLaMA 150M',
  config: {
    model_type: 'llama',
    hidden_size: 768,
    num_hidden_layers: 16,
    num_attention_heads: 12,
    num_key_value_heads: 4,
    intermediate_size: 2048,
    vocab_size: 32000,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    initializer_range: 0.02,
    attention_dropout: 0,
  },
  multiplied: 125.2e6,
};

const BERT: Model = {
  name: 'BERT base',
  config: {
    model_type: 'bert',
    architectures: ['BertForMaskedLM'],
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
    vocab_size: 30522,
    max_position_embeddings: 512,
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    hidden_act: 'gelu',
    initializer_range: 0.02,
    pad_token_id: 0,
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
  },
  multiplied: 109.1e6,
};

function on(model: Model, rows: number, tokens: number, precision: Precision): Workload {
  return { model: model.name, config: model.config, multiplied: model.multiplied, rows, tokens, precision };
}

/** GPT-2 with half the layers and vocabulary: four ranks of it and of the peer fit a small machine. */
export const SMALL_GPT2 = { ...GPT2.config, n_layer: 6, vocab_size: 25088 };

export const WORKLOADS: readonly Workload[] = [
  on(GPT2, 4, 256, 'fp32'),
  on(GPT2, 1, 1024, 'fp32'),
  on(PYTHIA, 4, 256, 'fp32'),
  on(LLAMA, 2, 512, 'fp32'),
  on(BERT, 4, 256, 'fp32'),
  on(GPT2, 4, 256, 'bf16'),
  on(GPT2, 1, 1024, 'bf16'),
  on(PYTHIA, 4, 256, 'bf16'),
  on(LLAMA, 2, 512, 'bf16'),
  on(BERT, 4, 256, 'bf16'),
];

/**
 * FLOPs of forward and backward: six per parameter and token, and the products of attention, half of them where it is causal.
 * BERT's output layer is counted for the labelled tokens alone, one in seven.
 */
export function stepFlops({ config, multiplied, rows, tokens }: Workload): number {
  const layers = Number(config.n_layer ?? config.num_hidden_layers);
  const width = Number(config.n_embd ?? config.hidden_size);
  const isMasked = config.model_type === 'bert';
  const attention = 3 * 4 * layers * width * (isMasked ? tokens : (tokens + 1) / 2);
  const head = isMasked ? width * Number(config.vocab_size) : 0;
  return (6 * (multiplied - (6 / 7) * head) + attention) * rows * tokens;
}
