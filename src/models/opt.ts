// OPT: learnt positions behind two spare entries, ReLU, tied head. Norms before each half and at the end, or (350m) behind each
// half and none at the end; narrower embeddings (350m) are projected in and out.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, Tensor } from '../engine/index.js';
import { activationNamed, Block, stack } from './blocks.js';
import { commonFields, count, readConfig, share, tokenIds } from './config.js';
import { type CausalFamily, causalModel } from './heads.js';
import type { Model } from './model.js';

const schema = z.looseObject({
  ...commonFields,
  hidden_size: count,
  ffn_dim: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  max_position_embeddings: count,
  word_embed_proj_dim: count.nullish(),
  activation_function: z.string().default('relu'),
  do_layer_norm_before: z.boolean().default(true),
  _remove_final_layer_norm: z.boolean().default(false),
  enable_bias: z.boolean().default(true),
  layer_norm_elementwise_affine: z.literal(true).default(true),
  tie_word_embeddings: z.boolean().default(true),
  dropout: share.default(0.1),
  attention_dropout: share.default(0),
  init_std: z.number().positive().default(0.02),
});

/** Position p is entry p + 2: the first two were kept for padding (fairseq). */
const POSITION_OFFSET = 2;
const EPS = 1e-5; // not configurable in Transformers

/** Reads a config.json of model_type opt; `place` names it in errors. */
export function opt(json: Readonly<Record<string, unknown>>, place: string): Model {
  const config = readConfig(schema, json, place);
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, enable_bias: hasBias } = config;
  if (width % heads !== 0) throw new ConfigError(`${place}.hidden_size`, `a multiple of ${heads} heads`, width);
  const headDim = width / heads;
  const wordWidth = config.word_embed_proj_dim ?? width;
  const isNormFirst = config.do_layer_norm_before;
  const activation = activationNamed(`${place}.activation_function`, config.activation_function);
  const std = config.init_std;
  const tokens = tokenIds(config);

  function block(graph: GraphBuilder, x: Tensor, index: number, attend: Attend): Tensor {
    const path = `model.decoder.layers.${index}`;
    const part = new Block(graph, path, std);
    /** x + half(x), with the norm on the way in or on the way out. */
    const residual = (normPath: string, input: Tensor, half: (input: Tensor) => Tensor) => {
      const norm = (tensor: Tensor) => part.layerNorm(`${path}.${normPath}`, tensor, EPS);
      const change = half(isNormFirst ? norm(input) : input);
      const sum = graph.add(path, input, graph.dropout(path, change, config.dropout));
      return isNormFirst ? sum : norm(sum);
    };
    const afterAttention = residual('self_attn_layer_norm', x, (input) => {
      const head = (name: string) => ({
        tensor: part.linear(`${path}.self_attn.${name}_proj`, input, width, hasBias),
        offset: 0,
        headStride: headDim,
      });
      const dropout = config.attention_dropout;
      const shape = { heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim), window: 0, dropout };
      const mixed = attend(`${path}.self_attn`, head('q'), head('k'), head('v'), shape);
      return part.linear(`${path}.self_attn.out_proj`, mixed, width, hasBias);
    });
    return residual('final_layer_norm', afterAttention, (input) => {
      const inner = part.linear(`${path}.fc1`, input, config.ffn_dim, hasBias);
      return part.linear(`${path}.fc2`, graph.activation(`${path}.act`, inner, activation), width, hasBias);
    });
  }

  const model: CausalFamily = {
    family: 'opt',
    config: json,
    className: 'OPT',
    languageClass: 'OPTForCausalLM',
    initializerStd: std,
    vocabularySize: config.vocab_size,
    maxPositions: config.max_position_embeddings,
    isTied: config.tie_word_embeddings,
    outputName: 'lm_head.weight',
    prefix: 'model.',
    ignoredNames: /(^|\.)decoder\.version$/,
    ...tokens,
    body(graph, { ids, positions }, attend) {
      const decoder = 'model.decoder';
      const embeddings = new Block(graph, 'embeddings', std);
      const tokenTable = embeddings.matrix(`${decoder}.embed_tokens.weight`, [config.vocab_size, wordWidth]);
      const positionCount = config.max_position_embeddings + POSITION_OFFSET;
      const positionTable = embeddings.matrix(`${decoder}.embed_positions.weight`, [positionCount, width]);
      const looked = graph.embedding(`${decoder}.embed_tokens`, ids, tokenTable, { paddingId: tokens.padTokenId });
      const isProjected = wordWidth !== width;
      const words = isProjected ? embeddings.linear(`${decoder}.project_in`, looked, width, false) : looked;
      const place = { addend: words, offset: POSITION_OFFSET };
      const placed = graph.embedding(`${decoder}.embed_positions`, positions, positionTable, place);
      const hiddenStates = stack(placed, layers, (x, index) => block(graph, x, index, attend));
      const last = hiddenStates[layers]!;
      const head = new Block(graph, 'head', std);
      const hasFinalNorm = isNormFirst && !config._remove_final_layer_norm;
      const x = hasFinalNorm ? head.layerNorm(`${decoder}.final_layer_norm`, last, EPS) : last;
      const hidden = isProjected ? head.linear(`${decoder}.project_out`, x, wordWidth, false) : x;
      hiddenStates[layers] = hidden;
      return { hidden, hiddenStates, tokenTable };
    },
  };
  return causalModel(model, place);
}
