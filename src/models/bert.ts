// BERT: attention both ways, token types, norms behind each half. As a classifier: a tanh pooler and a linear head on the first
// row of each sequence (the pooler runs on every row; only labelled rows reach the loss). As a masked language model: a
// transformed row against the word table, for the rows whose token is to be guessed.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, Head, Tensor } from '../engine/index.js';
import { activationNamed, Block, stack } from './blocks.js';
import { commonFields, count, readConfig, share, tokenIds } from './config.js';
import { architectureOf, sequenceTask } from './heads.js';
import type { Model } from './model.js';

const schema = z.looseObject({
  ...commonFields,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  max_position_embeddings: count,
  type_vocab_size: count.default(2),
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: z.number().positive().default(1e-12),
  hidden_dropout_prob: share.default(0.1),
  attention_probs_dropout_prob: share.default(0.1),
  classifier_dropout: share.nullish(),
  position_embedding_type: z.literal('absolute').default('absolute'),
  is_decoder: z.literal(false).default(false),
  tie_word_embeddings: z.literal(true).default(true),
});

const CLASSIFIER = 'BertForSequenceClassification';
const MASKED = 'BertForMaskedLM';

/** Reads a config.json of model_type bert; `place` names it in errors. */
export function bert(json: Readonly<Record<string, unknown>>, place: string): Model {
  const config = readConfig(schema, json, place);
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, layer_norm_eps: eps } = config;
  if (width % heads !== 0) throw new ConfigError(`${place}.hidden_size`, `a multiple of ${heads} heads`, width);
  const headDim = width / heads;
  const activation = activationNamed(`${place}.hidden_act`, config.hidden_act);
  const std = config.initializer_range;
  const tokens = tokenIds(config);

  function block(graph: GraphBuilder, x: Tensor, index: number, attend: Attend): Tensor {
    const path = `bert.encoder.layer.${index}`;
    const part = new Block(graph, path, std);
    const head = (name: string) => ({
      tensor: part.linear(`${path}.attention.self.${name}`, x, width, true),
      offset: 0,
      headStride: headDim,
    });
    /** norm(input + dense(from)). */
    const close = (half: string, from: Tensor, input: Tensor) => {
      const dense = part.linear(`${half}.dense`, from, width, true);
      const sum = graph.add(half, graph.dropout(half, dense, config.hidden_dropout_prob), input);
      return part.layerNorm(`${half}.LayerNorm`, sum, eps);
    };
    const scale = 1 / Math.sqrt(headDim);
    const dropout = config.attention_probs_dropout_prob;
    const shape = { heads, kvHeads: heads, headDim, scale, window: 0, isBothWays: true, dropout };
    const mixed = attend(`${path}.attention.self`, head('query'), head('key'), head('value'), shape);
    const afterAttention = close(`${path}.attention.output`, mixed, x);
    const inner = part.linear(`${path}.intermediate.dense`, afterAttention, config.intermediate_size, true);
    return close(`${path}.output`, graph.activation(`${path}.intermediate`, inner, activation), afterAttention);
  }

  /** [N, D] behind the last block, and the table of words. */
  function body(graph: GraphBuilder, ids: Tensor, positions: Tensor, attend: Attend) {
    const path = 'bert.embeddings';
    const part = new Block(graph, 'embeddings', std);
    const table = (name: string, entries: number) => part.matrix(`${path}.${name}.weight`, [entries, width]);
    const types = graph.input('types', 'i32', ids.dims);
    const words = table('word_embeddings', config.vocab_size);
    const places = table('position_embeddings', config.max_position_embeddings);
    const kinds = table('token_type_embeddings', config.type_vocab_size);
    const looked = graph.embedding(`${path}.word_embeddings`, ids, words, { paddingId: tokens.padTokenId });
    const typed = graph.embedding(`${path}.token_type_embeddings`, types, kinds, { addend: looked });
    const placed = graph.embedding(`${path}.position_embeddings`, positions, places, { addend: typed });
    const normed = part.layerNorm(`${path}.LayerNorm`, placed, eps);
    const x = graph.dropout(path, normed, config.hidden_dropout_prob);
    return { words, hiddenStates: stack(x, layers, (state, index) => block(graph, state, index, attend)) };
  }

  const facts = {
    family: 'bert',
    config: json,
    vocabularySize: config.vocab_size,
    maxPositions: config.max_position_embeddings,
    prefix: 'bert.',
    ...tokens,
  } as const;
  const asked = architectureOf(json) ?? CLASSIFIER;
  if (asked === CLASSIFIER) {
    const task = sequenceTask(json, place);
    return {
      ...facts,
      ...task,
      architecture: asked,
      labelAt: 'first',
      isTied: false,
      outputName: 'classifier.weight',
      ignoredNames: /(^|\.)position_ids$|^cls\./,
      build(graph, { ids, positions }, attend) {
        const { hiddenStates } = body(graph, ids, positions, attend);
        const part = new Block(graph, 'head', std);
        const pooled = part.linear('bert.pooler.dense', hiddenStates[layers]!, width, true);
        const weight = part.matrix('classifier.weight', [task.labelCount, width]);
        const head = { weight, bias: part.bias('classifier.bias', task.labelCount), isTransposed: false };
        const turned = graph.activation('bert.pooler', pooled, 'tanh');
        const hidden = graph.dropout('dropout', turned, config.classifier_dropout ?? config.hidden_dropout_prob);
        return { hidden, hiddenStates, head };
      },
    };
  }
  // BertForPreTraining is a masked language model with a second head, for the order of sentences, that we leave out. A bare
  // BertModel has no head: it can be read where heads start anew.
  if (![MASKED, 'BertForPreTraining', 'BertModel'].includes(asked)) {
    throw new ConfigError(`${place}.architectures`, `${CLASSIFIER}, ${MASKED} or BertModel`, asked);
  }
  return {
    ...facts,
    architecture: MASKED,
    isTied: true,
    outputName: 'cls.predictions.decoder.weight',
    ignoredNames: /(^|\.)position_ids$|^(bert\.)?pooler\.|^cls\.seq_relationship\.|^cls\.predictions\.decoder\.bias$/,
    build(graph, { ids, positions }, attend) {
      const { words, hiddenStates } = body(graph, ids, positions, attend);
      const path = 'cls.predictions';
      const part = new Block(graph, 'head', std);
      const inner = part.linear(`${path}.transform.dense`, hiddenStates[layers]!, width, true);
      const turned = graph.activation(`${path}.transform`, inner, activation);
      const hidden = part.layerNorm(`${path}.transform.LayerNorm`, turned, eps);
      const head: Head = { weight: words, bias: part.bias(`${path}.bias`, config.vocab_size), isTransposed: false };
      return { hidden, hiddenStates, head };
    },
  };
}
