// BERT as a classifier of sequences: attention both ways, token types, norms behind each half, a tanh pooler and a linear
// head on the first row of each sequence. The pooler runs on every row; only labelled rows reach the head's loss.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, ModelOutputs, Tensor, TokenInputs } from '../engine/index.js';
import { activationNamed, Block } from './blocks.js';
import { commonFields, count, readConfig, share, tokenIds } from './config.js';
import type { Model } from './model.js';

const schema = z.looseObject({
  ...commonFields,
  architectures: z.tuple([z.literal('BertForSequenceClassification')]).optional(),
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
  id2label: z.record(z.string(), z.string()).optional(),
  num_labels: count.optional(),
  problem_type: z.literal('single_label_classification').nullish(),
});

/** Reads a config.json of model_type bert; `place` names it in errors. */
export function bert(json: Readonly<Record<string, unknown>>, place: string): Model {
  const config = readConfig(schema, json, place);
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, layer_norm_eps: eps } = config;
  if (width % heads !== 0) throw new ConfigError(`${place}.hidden_size`, `a multiple of ${heads} heads`, width);
  const headDim = width / heads;
  const labelCount = config.id2label ? Object.keys(config.id2label).length : (config.num_labels ?? 2);
  if (labelCount < 2) throw new ConfigError(`${place}.id2label`, 'at least two classes', labelCount);
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
    const shape = { heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim), window: 0, isBothWays: true };
    const mixed = attend(`${path}.attention.self`, head('query'), head('key'), head('value'), shape);
    const afterAttention = close(`${path}.attention.output`, mixed, x);
    const inner = part.linear(`${path}.intermediate.dense`, afterAttention, config.intermediate_size, true);
    return close(`${path}.output`, graph.activation(`${path}.intermediate`, inner, activation), afterAttention);
  }

  return {
    family: 'bert',
    config: json,
    vocabularySize: config.vocab_size,
    labelCount,
    maxPositions: config.max_position_embeddings,
    isTied: false,
    outputName: 'classifier.weight',
    prefix: 'bert.',
    ignoredNames: /(^|\.)position_ids$|^cls\./,
    ...tokens,
    build(graph: GraphBuilder, { ids, positions }: TokenInputs, attend: Attend): ModelOutputs {
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
      let x = graph.dropout(path, normed, config.hidden_dropout_prob);
      const hiddenStates = [x];
      for (let index = 0; index < layers; index++) {
        x = block(graph, x, index, attend);
        hiddenStates.push(x);
      }
      const head = new Block(graph, 'head', std);
      const pooled = graph.activation('bert.pooler', head.linear('bert.pooler.dense', x, width, true), 'tanh');
      const hidden = graph.dropout('dropout', pooled, config.classifier_dropout ?? config.hidden_dropout_prob);
      const weight = head.matrix('classifier.weight', [labelCount, width]);
      const bias = head.bias('classifier.bias', labelCount);
      return { hidden, hiddenStates, head: { weight, bias, isTransposed: false } };
    },
  };
}
