// A small model of every family, with dims that cut into 2 and 4.
import { type Model, modelFromConfig } from '#src/models/index.js';

export const VOCABULARY = 37; // cuts into neither 2 nor 4
const COMMON = { vocab_size: VOCABULARY, max_position_embeddings: 64 };
export const LLAMA = {
  ...COMMON,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
export const BERT = { ...COMMON, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 4 };
const GPT2 = { model_type: 'gpt2', n_layer: 2, n_head: 4, n_embd: 16, n_positions: 64, vocab_size: VOCABULARY };
const OPT = {
  ...COMMON,
  model_type: 'opt',
  hidden_size: 16,
  ffn_dim: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
};

export const FAMILIES: Readonly<Record<string, () => Model>> = {
  gpt2: () => modelFromConfig(GPT2),
  'llama with 2 key-value heads': () => modelFromConfig({ ...LLAMA, model_type: 'llama' }),
  'llama with 1 key-value head and biases': () =>
    modelFromConfig({ ...LLAMA, model_type: 'llama', num_key_value_heads: 1, attention_bias: true, mlp_bias: true }),
  'tied llama': () => modelFromConfig({ ...LLAMA, model_type: 'llama', tie_word_embeddings: true }),
  mistral: () => modelFromConfig({ ...LLAMA, model_type: 'mistral', sliding_window: 3 }),
  qwen2: () => modelFromConfig({ ...LLAMA, model_type: 'qwen2' }),
  qwen3: () => modelFromConfig({ ...LLAMA, model_type: 'qwen3', head_dim: 8 }),
  'gpt_neox in parallel': () => modelFromConfig({ ...BERT, model_type: 'gpt_neox', rotary_pct: 0.5 }),
  'gpt_neox in series': () =>
    modelFromConfig({ ...BERT, model_type: 'gpt_neox', rotary_pct: 0.5, use_parallel_residual: false }),
  opt: () => modelFromConfig(OPT),
  'opt with narrow embeddings and norms behind': () =>
    modelFromConfig({ ...OPT, word_embed_proj_dim: 8, do_layer_norm_before: false }),
  'bert, masked': () => modelFromConfig({ ...BERT, model_type: 'bert', architectures: ['BertForMaskedLM'] }),
  'bert, classifying': () =>
    modelFromConfig({ ...BERT, model_type: 'bert', num_labels: 37, architectures: ['BertForSequenceClassification'] }),
};

/** Of each kind of block one that drops what a config can name. */
export const DROPPING: Readonly<Record<string, () => Model>> = {
  gpt2: FAMILIES.gpt2!,
  bert: FAMILIES['bert, masked']!,
  neox: () =>
    modelFromConfig({
      ...BERT,
      model_type: 'gpt_neox',
      rotary_pct: 0.5,
      hidden_dropout: 0.2,
      attention_dropout: 0.2,
    }),
};
