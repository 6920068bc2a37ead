// How a config.json says that weights are stored: `dtype`, or `torch_dtype` as older files call it.
import { ConfigError } from '../common/index.js';
import type { FloatType } from '../engine/index.js';
import type { Model } from './model.js';

export const DTYPE_NAMES: Readonly<Record<FloatType, string>> = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' };

/** The type that the configuration names; f32 where it names none. Throws {@link ConfigError} for types that are not computed in. */
export function storedType({ config }: Model): FloatType {
  const key = config.dtype == null ? 'torch_dtype' : 'dtype';
  const name = config[key] ?? DTYPE_NAMES.f32;
  const plain = typeof name === 'string' ? name.replace(/^torch\./, '') : name;
  const known = (['f32', 'bf16', 'f16'] as const).find((type) => DTYPE_NAMES[type] === plain);
  if (known) return known;
  const hint = 'Say which of them to use, as f32';
  throw new ConfigError(`config.json.${key}`, `one of ${Object.values(DTYPE_NAMES).join(', ')}`, name, hint);
}
