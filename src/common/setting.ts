// Settings from environment variables.
import { ConfigError } from './errors/index.js';

/** The number that `name` says, or `byDefault` where it says nothing. Throws {@link ConfigError} outside of `min` to `max`. */
export function numberSetting(
  name: string,
  byDefault: number,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: { readonly min?: number; readonly max?: number } = {},
): number {
  const text = process.env[name] ?? '';
  if (text === '') return byDefault;
  const value = Number(text);
  if (!(value >= min && value <= max)) throw new ConfigError(name, `a number from ${min} to ${max}`, text);
  return value;
}
