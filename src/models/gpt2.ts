// GPT-2: learnt positions, layer norm before each half, fused q‖k‖v, Conv1D weights [inputs, outputs], tied head.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, Tensor } from '../engine/index.js';
import { activationNamed, Block, stack } from './blocks.js';
import { commonFields, count, readConfig, share, tokenIds } from './config.js';
import { type CausalFamily, causalModel } from './heads.js';
import type { Model } from './model.js';

const schema = z.looseObject({
  ...commonFields,
  n_layer: count,
  n_head: count,
  n_embd: count,
  n_positions: count,
  n_inner: count.nullish(),
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
  add_cross_attention: z.literal(false).default(false),
  resid_pdrop: share.default(0.1),
  embd_pdrop: share.default(0.1),
  attn_pdrop: share.default(0.1),
});

/** Reads a config.json of model_type gpt2; `place` names it in errors. */
export function gpt2(json: Readonly<Record<string, unknown>>, place: string): Model {
  const config = readConfig(schema, json, place);
  const { n_embd: width, n_head: heads, n_layer: layers, layer_norm_epsilon: eps } = config;
  if (width % heads !== 0) throw new ConfigError(`${place}.n_embd`, `a multiple of n_head (${heads})`, width);
  const headDim = width / heads;
  const inner = config.n_inner ?? 4 * width;
  const activation = activationNamed(`${place}.activation_function`, config.activation_function);
  const std = config.initializer_range;
  // Residual projections start smaller, so that the variance of the stream does not grow with depth (GPT-2 paper, section 2.3).
  const projectionStd = std / Math.sqrt(2 * layers);

  function block(graph: GraphBuilder, x: Tensor, index: number, attend: Attend): Tensor {
    const path = `transformer.h.${index}`;
    const part = new Block(graph, path, std);
    const normed = part.layerNorm(`${path}.ln_1`, x, eps);
    const qkv = part.conv1d(`${path}.attn.c_attn`, normed, 3 * width);
    const head = (offset: number) => ({ tensor: qkv, offset, headStride: headDim });
    const byDepth = config.scale_attn_by_inverse_layer_idx ? index + 1 : 1;
    const scale = (config.scale_attn_weights ? 1 / Math.sqrt(headDim) : 1) / byDepth;
    const shape = { heads, kvHeads: heads, headDim, scale, window: 0, dropout: config.attn_pdrop };
    const mixed = attend(`${path}.attn`, head(0), head(width), head(2 * width), shape);
    const close = (half: string, input: Tensor) =>
      graph.dropout(half, part.conv1d(`${half}.c_proj`, input, width, projectionStd), config.resid_pdrop);
    const afterAttention = graph.add(path, x, close(`${path}.attn`, mixed));
    const again = part.layerNorm(`${path}.ln_2`, afterAttention, eps);
    const hidden = graph.activation(`${path}.mlp.act`, part.conv1d(`${path}.mlp.c_fc`, again, inner), activation);
    return graph.add(path, afterAttention, close(`${path}.mlp`, hidden));
  }

  const model: CausalFamily = {
    family: 'gpt2',
    config: json,
    className: 'GPT2',
    languageClass: 'GPT2LMHeadModel',
    initializerStd: std,
    vocabularySize: config.vocab_size,
    maxPositions: config.n_positions,
    isTied: config.tie_word_embeddings,
    prefix: 'transformer.',
    outputName: 'lm_head.weight',
    ignoredNames: /(^|\.)attn\.(masked_)?bias$/,
    ...tokenIds(config),
    body(graph, { ids, positions }, attend) {
      const embeddings = new Block(graph, 'embeddings', std);
      const tokenTable = embeddings.matrix('transformer.wte.weight', [config.vocab_size, width]);
      const positionTable = embeddings.matrix('transformer.wpe.weight', [config.n_positions, width]);
      const words = graph.embedding('transformer.wte', ids, tokenTable);
      const placed = graph.embedding('transformer.wpe', positions, positionTable, { addend: words });
      const looked = graph.dropout('transformer.drop', placed, config.embd_pdrop);
      const hiddenStates = stack(looked, layers, (x, index) => block(graph, x, index, attend));
      const x = hiddenStates[layers]!;
      const head = new Block(graph, 'head', std);
      const hidden = head.layerNorm('transformer.ln_f', x, eps);
      hiddenStates[layers] = hidden;
      return { hidden, hiddenStates, tokenTable };
    },
  };
  return causalModel(model, place);
}
