// config.json of a model that is trained from scratch.
import type { Tokenizer } from '../data/index.js';
import type { FreshModel } from './recipe.js';

/** config.json of a fresh model. */
export function configOf(
  model: FreshModel,
  facts: { readonly vocabSize: number; readonly sequenceLength: number; readonly tokenizer: Tokenizer },
): Readonly<Record<string, unknown>> {
  const positions = model.maxPositions ?? facts.sequenceLength;
  // GPT-2's 0.02 at its width of 768; narrower models start with larger weights, or attention hardly tells tokens apart.
  const initializer_range = Number((0.02 * Math.sqrt(768 / model.hidden)).toPrecision(3));
  const ids = {
    vocab_size: facts.vocabSize,
    bos_token_id: facts.tokenizer.bosId,
    eos_token_id: facts.tokenizer.eosId,
    pad_token_id: facts.tokenizer.padId,
  };
  switch (model.kind) {
    case 'gpt2':
      return {
        model_type: 'gpt2',
        ...ids,
        n_layer: model.layers,
        n_embd: model.hidden,
        n_head: model.heads,
        n_inner: model.feedForward ?? 4 * model.hidden,
        n_positions: positions,
        activation_function: 'gelu_new',
        layer_norm_epsilon: 1e-5,
        resid_pdrop: 0,
        embd_pdrop: 0,
        attn_pdrop: 0,
        initializer_range,
      };
    case 'llama':
      return {
        model_type: 'llama',
        ...ids,
        num_hidden_layers: model.layers,
        hidden_size: model.hidden,
        num_attention_heads: model.heads,
        num_key_value_heads: model.kvHeads ?? model.heads,
        intermediate_size: model.feedForward ?? Math.ceil((8 * model.hidden) / 3 / 32) * 32,
        max_position_embeddings: positions,
        rms_norm_eps: 1e-5,
        rope_theta: 10000,
        hidden_act: 'silu',
        tie_word_embeddings: false,
        initializer_range,
      };
    case 'bert':
      return {
        model_type: 'bert',
        architectures: ['BertForMaskedLM'],
        ...ids,
        num_hidden_layers: model.layers,
        hidden_size: model.hidden,
        num_attention_heads: model.heads,
        intermediate_size: model.feedForward ?? 4 * model.hidden,
        max_position_embeddings: positions,
        type_vocab_size: 2,
        hidden_act: 'gelu',
        layer_norm_eps: 1e-12,
        hidden_dropout_prob: 0,
        attention_probs_dropout_prob: 0,
        initializer_range,
      };
  }
}
