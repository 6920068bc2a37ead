// Rotary frequencies of config.json in both spellings (rope_theta and rope_scaling, or rope_parameters), and their tables.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { GraphBuilder, Tensor } from '../engine/index.js';

const settings = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the older name of rope_type
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: z.number().positive().optional(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  attention_factor: z.number().positive().nullish(),
  beta_fast: z.number().positive().nullish(),
  beta_slow: z.number().positive().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
  short_factor: z.array(z.number().positive()).optional(),
  long_factor: z.array(z.number().positive()).optional(),
});

/** Keys of config.json that concern rotary embeddings. */
export const ropeFields = {
  rope_theta: z.number().positive().optional(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  original_max_position_embeddings: z.number().positive().nullish(), // where Phi-3 has it
  rope_scaling: settings.nullish(),
  rope_parameters: settings.nullish(),
};

type Settings = z.output<typeof settings>;

/** What a config.json says of rotary embeddings, in the spelling of Transformers 4 or 5. */
export interface RopeFields {
  readonly max_position_embeddings: number;
  readonly rope_theta?: number | undefined;
  readonly original_max_position_embeddings?: number | null | undefined;
  readonly rope_scaling?: Settings | null | undefined;
  readonly rope_parameters?: Settings | null | undefined;
}

/** The angles of rotary embeddings (arXiv:2104.09864). */
export interface Rope {
  /** Angle per position of each pair of columns, f32[rotary columns / 2]. */
  readonly frequencies: Float32Array;
  /** Multiplies cosines and sines: the temperature of attention of yarn and longrope. */
  readonly attentionFactor: number;
}

/** What a block needs to turn q and k. */
export interface Rotation {
  readonly table: { readonly cos: Tensor; readonly sin: Tensor };
  readonly positions: Tensor;
}

/**
 * Rotary embedding of `width` columns as Transformers computes it. Types default, linear, dynamic, llama3, yarn and longrope.
 * `length` is the longest sequence: `dynamic` widens its base where that is beyond max_position_embeddings, `longrope` takes its
 * long factors where it is beyond the original context.
 */
export function ropeOf(
  fields: RopeFields,
  width: number,
  place: string,
  length = fields.max_position_embeddings,
): Rope {
  const scaling = fields.rope_parameters ?? fields.rope_scaling ?? {};
  const key = `${place}.${fields.rope_parameters ? 'rope_parameters' : 'rope_scaling'}`;
  const theta = fields.rope_parameters?.rope_theta ?? fields.rope_theta ?? 10_000;
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings') => {
    const value = scaling[name];
    if (value === undefined) throw new ConfigError(`${key}.${name}`, `a number, as rope_type ${type} needs`, value);
    return value;
  };
  const plain = (frequencies: Float32Array): Rope => ({ frequencies, attentionFactor: 1 });
  switch (type) {
    case 'default':
      return plain(powers(theta, width));
    case 'linear': {
      const factor = need('factor');
      return plain(powers(theta, width).map((frequency) => frequency / factor));
    }
    case 'dynamic': {
      const context = fields.max_position_embeddings;
      const stretch = (need('factor') * Math.max(length, context)) / context - (need('factor') - 1);
      return plain(powers(theta * stretch ** (width / (width - 2)), width));
    }
    case 'llama3': {
      const factor = need('factor');
      const low = need('low_freq_factor');
      const high = need('high_freq_factor');
      const context = need('original_max_position_embeddings');
      return plain(
        powers(theta, width).map((frequency) => {
          const wavelength = (2 * Math.PI) / frequency;
          if (wavelength < context / high) return frequency;
          if (wavelength > context / low) return frequency / factor;
          const smooth = (context / wavelength - low) / (high - low);
          return ((1 - smooth) * frequency) / factor + smooth * frequency;
        }),
      );
    }
    case 'yarn':
      return yarn(scaling, theta, width, need('factor'), fields.max_position_embeddings);
    case 'longrope':
    case 'su': // the name in the first Phi-3 configurations
      return longRope({ ...scaling, factor: scaling.factor ?? 1 }, fields, theta, width, key, length);
    default:
      throw new ConfigError(`${key}.rope_type`, 'default, linear, dynamic, llama3, yarn or longrope', type);
  }
}

/** theta^(-2i / width). Each step is rounded as Transformers rounds it: at position 10,000 the last bit shows in the third digit. */
function powers(theta: number, width: number): Float32Array {
  return Float32Array.from({ length: width / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / width)));
}

/** YaRN, arXiv:2309.00071 §3.2-3.4: fast columns keep their frequency, slow ones are divided, a ramp lies between. */
function yarn(scaling: Settings, theta: number, width: number, factor: number, maxPositions: number): Rope {
  const context = scaling.original_max_position_embeddings ?? maxPositions;
  // The column that turns `rotations` times over the original context.
  const column = (rotations: number) => (width * Math.log(context / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const fast = column(scaling.beta_fast ?? 32);
  const slow = column(scaling.beta_slow ?? 1);
  const isRounded = scaling.truncate ?? true;
  const low = Math.max(isRounded ? Math.floor(fast) : fast, 0);
  const high = Math.min(isRounded ? Math.ceil(slow) : slow, width - 1);
  const frequencies = powers(theta, width).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low || 0.001), 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
  const temperature = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const { mscale, mscale_all_dim: all } = scaling;
  const byFactor = mscale && all ? temperature(mscale) / temperature(all) : temperature(1);
  return { frequencies, attentionFactor: scaling.attention_factor ?? byFactor };
}

/** LongRoPE, arXiv:2402.13753: a divisor for each frequency, one set within the original context and one beyond it. */
function longRope(
  scaling: Settings & { readonly factor: number },
  fields: RopeFields,
  theta: number,
  width: number,
  key: string,
  length: number,
): Rope {
  const original = fields.original_max_position_embeddings ?? scaling.original_max_position_embeddings;
  const context = original ?? fields.max_position_embeddings;
  const factor = original ? fields.max_position_embeddings / original : scaling.factor;
  const name = length > context ? 'long_factor' : 'short_factor';
  const divisors = scaling[name];
  if (divisors?.length !== width / 2)
    throw new ConfigError(`${key}.${name}`, `${width / 2} numbers, one for each frequency`, divisors);
  const frequencies = Float32Array.from(divisors, (divisor, i) => {
    const power = Math.fround(theta ** Math.fround((2 * i) / width));
    return 1 / Math.fround(Math.fround(divisor) * power);
  });
  const byContext = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(context));
  return { frequencies, attentionFactor: scaling.attention_factor ?? byContext };
}

/** cos and sin [positions, frequencies] of position * frequency, rounded as float32 arithmetic would. */
export function ropeTables(
  { frequencies, attentionFactor }: Rope,
  positions: number,
): { cos: Float32Array; sin: Float32Array } {
  const width = frequencies.length;
  const cos = new Float32Array(positions * width);
  const sin = new Float32Array(positions * width);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < width; i++) {
      const angle = Math.fround(p * frequencies[i]!);
      cos[p * width + i] = Math.cos(angle) * attentionFactor;
      sin[p * width + i] = Math.sin(angle) * attentionFactor;
    }
  }
  return { cos, sin };
}

/** The tables as constants of a graph, under `rope.cos` and `rope.sin`. */
export function ropeConstants(graph: GraphBuilder, rope: Rope, positions: number): { cos: Tensor; sin: Tensor } {
  const { cos, sin } = ropeTables(rope, positions);
  const dims = [positions, rope.frequencies.length];
  return { cos: graph.constant('rope.cos', dims, cos), sin: graph.constant('rope.sin', dims, sin) };
}
