// The LLaMA family: RMS norm before each half, rotary positions, grouped key-value heads, gated SiLU. Mistral adds a sliding
// window, Qwen2 biases on q, k and v, Qwen3 a norm of each head of q and k.
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
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  max_position_embeddings: count,
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.string().default('silu'),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  attention_dropout: share.default(0),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.number().int().nonnegative().default(28),
  layer_types: z.array(z.string()).nullish(),
});

type Config = z.output<typeof schema>;
type LlamaFamily = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

const CLASS_NAMES: Readonly<Record<LlamaFamily, string>> = {
  llama: 'Llama',
  mistral: 'Mistral',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
};

/** What Transformers takes where a configuration is silent and the families differ. */
const DEFAULTS: Readonly<Record<LlamaFamily, Readonly<Record<string, unknown>>>> = {
  llama: {},
  mistral: { num_key_value_heads: 8, sliding_window: 4096 },
  qwen2: { num_key_value_heads: 32, sliding_window: 4096 },
  qwen3: { num_key_value_heads: 32, head_dim: 128, sliding_window: 4096 },
};

/** Reads a config.json of model_type llama, mistral, qwen2 or qwen3; `place` names it in errors. */
export function llama(json: Readonly<Record<string, unknown>>, place: string, family: LlamaFamily): Model {
  const config = readConfig(schema, { ...DEFAULTS[family], ...json }, place);
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers, rms_norm_eps: eps } = config;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) throw new ConfigError(`${place}.num_key_value_heads`, `a divisor of ${heads}`, kvHeads);
  const headDim = config.head_dim ?? width / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new ConfigError(`${place}.hidden_size`, `an even number of columns for each of ${heads} heads`, width);
  }
  const activation = activationNamed(`${place}.hidden_act`, config.hidden_act);
  const share = config.rope_parameters?.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  const rotaryDim = Math.floor(headDim * share);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw new ConfigError(
      `${place}.partial_rotary_factor`,
      `an even number of the ${headDim} columns of a head`,
      share,
    );
  }
  const rope = (length: number) => ropeOf(config, rotaryDim, place, length);
  rope(config.max_position_embeddings); // what is wrong is told now
  const windows = windowsOf(config, family, place);
  const std = config.initializer_range;
  const tokens = tokenIds(config);
  const hasQkvBias = family === 'qwen2' || config.attention_bias;
  const hasHeadNorm = family === 'qwen3';
  const hasOutputBias = (family === 'llama' || family === 'qwen3') && config.attention_bias;

  function block(graph: GraphBuilder, x: Tensor, index: number, rotation: Rotation, attend: Attend): Tensor {
    const path = `model.layers.${index}`;
    const part = new Block(graph, path, std);
    const normed = part.rmsNorm(`${path}.input_layernorm`, x, eps);
    const project = (name: string, count: number) =>
      part.linear(`${path}.self_attn.${name}`, normed, count * headDim, hasQkvBias);
    const turn = (name: 'q' | 'k', count: number) => {
      const place = `${path}.self_attn.${name}`;
      const plain = project(`${name}_proj`, count);
      const tensor = hasHeadNorm ? part.rmsNorm(`${place}_norm`, plain, eps, headDim) : plain;
      const view = { tensor, offset: 0, headStride: headDim };
      const heads = { heads: count, headDim };
      return { ...view, tensor: graph.rotary(`${place}_proj`, view, rotation.table, rotation.positions, heads) };
    };
    const scale = 1 / Math.sqrt(headDim);
    const dropout = config.attention_dropout;
    const shape = { heads, kvHeads, headDim, scale, window: windows[index]!, dropout };
    const q = turn('q', heads);
    const k = turn('k', kvHeads);
    const v = { tensor: project('v_proj', kvHeads), offset: 0, headStride: headDim };
    const mixed = attend(`${path}.self_attn`, q, k, v, shape);
    const afterAttention = graph.add(path, x, part.linear(`${path}.self_attn.o_proj`, mixed, width, hasOutputBias));
    const again = part.rmsNorm(`${path}.post_attention_layernorm`, afterAttention, eps);
    const gate = part.linear(`${path}.mlp.gate_proj`, again, config.intermediate_size, config.mlp_bias);
    const up = part.linear(`${path}.mlp.up_proj`, again, config.intermediate_size, config.mlp_bias);
    const hidden = graph.gatedActivation(`${path}.mlp.act`, gate, up, activation);
    return graph.add(path, afterAttention, part.linear(`${path}.mlp.down_proj`, hidden, width, config.mlp_bias));
  }

  const model: CausalFamily = {
    family,
    config: json,
    className: CLASS_NAMES[family],
    languageClass: `${CLASS_NAMES[family]}ForCausalLM`,
    initializerStd: std,
    vocabularySize: config.vocab_size,
    maxPositions: config.max_position_embeddings,
    isTied: config.tie_word_embeddings,
    prefix: 'model.',
    outputName: 'lm_head.weight',
    ignoredNames: /(^|\.)rotary_emb\.inv_freq$/,
    ...tokens,
    body(graph, { ids, positions, positionLimit }, attend) {
      const embeddings = new Block(graph, 'embeddings', std);
      const tokenTable = embeddings.matrix('model.embed_tokens.weight', [config.vocab_size, width]);
      const table = ropeConstants(graph, rope(positionLimit), positionLimit);
      const looked = graph.embedding('model.embed_tokens', ids, tokenTable, { paddingId: tokens.padTokenId });
      const hiddenStates = stack(looked, layers, (x, index) => block(graph, x, index, { table, positions }, attend));
      const x = hiddenStates[layers]!;
      const head = new Block(graph, 'head', std);
      const hidden = head.rmsNorm('model.norm', x, eps);
      hiddenStates[layers] = hidden;
      return { hidden, hiddenStates, tokenTable };
    },
  };
  return causalModel(model, place);
}

/** Tokens that a row of each layer sees, itself included; 0 for all. `layer_types` decides where it is given. */
function windowsOf(config: Config, family: LlamaFamily, place: string): readonly number[] {
  const { num_hidden_layers: layers, layer_types: types, max_window_layers: from } = config;
  const isQwen = family === 'qwen2' || family === 'qwen3';
  const hasWindow = family === 'mistral' || (isQwen && config.use_sliding_window);
  const window = hasWindow ? (config.sliding_window ?? 0) : 0;
  if (!types) return Array.from({ length: layers }, (_, index) => (isQwen && index < from ? 0 : window));
  const wrong = types.find((type) => type !== 'full_attention' && type !== 'sliding_attention');
  if (wrong !== undefined || types.length !== layers) {
    const expected = `${layers} times full_attention or sliding_attention`;
    throw new ConfigError(`${place}.layer_types`, expected, wrong ?? `${types.length} entries`);
  }
  return types.map((type) => (type === 'sliding_attention' ? window : 0));
}
