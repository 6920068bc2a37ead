// Rotary frequencies of config.json in both spellings (rope_theta and rope_scaling, or rope_parameters), and their tables.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';

const settings = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the older name of rope_type
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: z.number().positive().optional(),
});

/** Keys of config.json that concern rotary embeddings. */
export const ropeFields = {
  rope_theta: z.number().positive().optional(),
  rope_scaling: settings.nullish(),
  rope_parameters: settings.nullish(),
};

export interface RopeFields {
  readonly rope_theta?: number | undefined;
  readonly rope_scaling?: z.output<typeof settings> | null | undefined;
  readonly rope_parameters?: z.output<typeof settings> | null | undefined;
}

/** Angle per position of each pair of columns, f32[headDim / 2]. Types default, linear and llama3. */
export function ropeFrequencies(fields: RopeFields, headDim: number, place: string): Float32Array {
  const scaling = fields.rope_parameters ?? fields.rope_scaling ?? {};
  const key = `${place}.${fields.rope_parameters ? 'rope_parameters' : 'rope_scaling'}`;
  const theta = fields.rope_parameters?.rope_theta ?? fields.rope_theta ?? 10_000;
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings') => {
    const value = scaling[name];
    if (value === undefined) throw new ConfigError(`${key}.${name}`, `a number, as rope_type ${type} needs`, value);
    return value;
  };
  // Each step is rounded as Transformers rounds it: at position 10,000 the last bit of a frequency shows in the third digit.
  const plain = Float32Array.from(
    { length: headDim / 2 },
    (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / headDim)),
  );
  switch (type) {
    case 'default':
      return plain;
    case 'linear': {
      const factor = need('factor');
      return plain.map((frequency) => frequency / factor);
    }
    case 'llama3': {
      const factor = need('factor');
      const low = need('low_freq_factor');
      const high = need('high_freq_factor');
      const context = need('original_max_position_embeddings');
      return plain.map((frequency) => {
        const wavelength = (2 * Math.PI) / frequency;
        if (wavelength < context / high) return frequency;
        if (wavelength > context / low) return frequency / factor;
        const smooth = (context / wavelength - low) / (high - low);
        return ((1 - smooth) * frequency) / factor + smooth * frequency;
      });
    }
    default:
      throw new ConfigError(`${key}.rope_type`, 'default, linear or llama3', type);
  }
}

/** cos and sin [positions, frequencies] of position * frequency, rounded as float32 arithmetic would. */
export function ropeTables(frequencies: Float32Array, positions: number): { cos: Float32Array; sin: Float32Array } {
  const width = frequencies.length;
  const cos = new Float32Array(positions * width);
  const sin = new Float32Array(positions * width);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < width; i++) {
      const angle = Math.fround(p * frequencies[i]!);
      cos[p * width + i] = Math.cos(angle);
      sin[p * width + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
