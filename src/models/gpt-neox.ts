// GPT-NeoX (Pythia, Dolly v2): rotary positions on the first columns of each head, q‖k‖v interleaved head by head, both halves
// of a block reading the same input (or one after the other), a head of its own.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, Tensor } from '../engine/index.js';
import { activationNamed, Block, stack } from './blocks.js';
import { commonFields, count, readConfig, share, tokenIds } from './config.js';
import { type CausalFamily, causalModel } from './heads.js';
import type { Model } from './model.js';
import { type Rotation, ropeConstants, ropeFields, ropeOf } from './rope.js';

const schema = z.looseObject({
  ...commonFields,
  ...ropeFields,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  max_position_embeddings: count,
  rotary_pct: z.number().positive().max(1).default(0.25),
  rotary_emb_base: z.number().positive().optional(),
  use_parallel_residual: z.boolean().default(true),
  layer_norm_eps: z.number().positive().default(1e-5),
  hidden_act: z.string().default('gelu'),
  attention_bias: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
  hidden_dropout: share.default(0),
  attention_dropout: share.default(0),
});

/** Reads a config.json of model_type gpt_neox; `place` names it in errors. */
export function gptNeox(json: Readonly<Record<string, unknown>>, place: string): Model {
  const config = readConfig(schema, json, place);
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, layer_norm_eps: eps } = config;
  if (width % heads !== 0) throw new ConfigError(`${place}.hidden_size`, `a multiple of ${heads} heads`, width);
  const headDim = width / heads;
  const share = config.rope_parameters?.partial_rotary_factor ?? config.rotary_pct;
  const rotaryDim = Math.floor(headDim * share);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw new ConfigError(`${place}.rotary_pct`, `an even number of the ${headDim} columns of a head`, share);
  }
  const ropeSettings = { ...config, rope_theta: config.rotary_emb_base ?? config.rope_theta };
  const rope = (length: number) => ropeOf(ropeSettings, rotaryDim, place, length);
  rope(config.max_position_embeddings); // what is wrong is told now
  const activation = activationNamed(`${place}.hidden_act`, config.hidden_act);
  const std = config.initializer_range;
  const { attention_bias: hasBias, use_parallel_residual: isParallel } = config;

  function block(graph: GraphBuilder, x: Tensor, index: number, rotation: Rotation, attend: Attend): Tensor {
    const path = `gpt_neox.layers.${index}`;
    const part = new Block(graph, path, std);
    const normed = part.layerNorm(`${path}.input_layernorm`, x, eps);
    const qkv = part.linear(`${path}.attention.query_key_value`, normed, 3 * width, hasBias);
    // A head's q, k and v lie side by side.
    const head = (tensor: Tensor, nth: 0 | 1 | 2) => ({ tensor, offset: nth * headDim, headStride: 3 * headDim });
    const turn = (tensor: Tensor, nth: 0 | 1) =>
      graph.rotary(`${path}.attention`, head(tensor, nth), rotation.table, rotation.positions, { heads, headDim });
    const turned = turn(turn(qkv, 0), 1);
    const dropout = config.attention_dropout;
    const shape = { heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim), window: 0, dropout };
    const mixed = attend(`${path}.attention`, head(turned, 0), head(turned, 1), head(turned, 2), shape);
    const close = (half: string, input: Tensor, hasBias: boolean) =>
      graph.dropout(half, part.linear(half, input, width, hasBias), config.hidden_dropout);
    const afterAttention = graph.add(path, x, close(`${path}.attention.dense`, mixed, hasBias));
    const again = part.layerNorm(`${path}.post_attention_layernorm`, isParallel ? x : afterAttention, eps);
    const inner = part.linear(`${path}.mlp.dense_h_to_4h`, again, config.intermediate_size, true);
    const hidden = graph.activation(`${path}.mlp.act`, inner, activation);
    return graph.add(path, afterAttention, close(`${path}.mlp.dense_4h_to_h`, hidden, true));
  }

  const model: CausalFamily = {
    family: 'gpt_neox',
    config: json,
    className: 'GPTNeoX',
    languageClass: 'GPTNeoXForCausalLM',
    initializerStd: std,
    vocabularySize: config.vocab_size,
    maxPositions: config.max_position_embeddings,
    isTied: config.tie_word_embeddings,
    outputName: 'embed_out.weight',
    prefix: 'gpt_neox.',
    ignoredNames: /(^|\.)attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/,
    ...tokenIds(config),
    body(graph, { ids, positions, positionLimit }, attend) {
      const embeddings = new Block(graph, 'embeddings', std);
      const tokenTable = embeddings.matrix('gpt_neox.embed_in.weight', [config.vocab_size, width]);
      const rotation = { table: ropeConstants(graph, rope(positionLimit), positionLimit), positions };
      const words = graph.embedding('gpt_neox.embed_in', ids, tokenTable);
      const looked = graph.dropout('gpt_neox.emb_dropout', words, config.hidden_dropout);
      const hiddenStates = stack(looked, layers, (x, index) => block(graph, x, index, rotation, attend));
      const x = hiddenStates[layers]!;
      const head = new Block(graph, 'head', std);
      const hidden = head.layerNorm('gpt_neox.final_layer_norm', x, eps);
      hiddenStates[layers] = hidden;
      return { hidden, hiddenStates, tokenTable };
    },
  };
  return causalModel(model, place);
}
