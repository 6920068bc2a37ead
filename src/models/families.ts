// From a config.json to its model: the table of families.
import { ConfigError } from '../common/index.js';
import { bert } from './bert.js';
import { gptNeox } from './gpt-neox.js';
import { gpt2 } from './gpt2.js';
import { llama } from './llama.js';
import type { Family, Model } from './model.js';
import { opt } from './opt.js';

type Reader = (json: Readonly<Record<string, unknown>>, place: string) => Model;

const FAMILIES: Readonly<Record<Family, Reader>> = {
  bert,
  gpt2,
  gpt_neox: gptNeox,
  llama: (json, place) => llama(json, place, 'llama'),
  mistral: (json, place) => llama(json, place, 'mistral'),
  opt,
  qwen2: (json, place) => llama(json, place, 'qwen2'),
  qwen3: (json, place) => llama(json, place, 'qwen3'),
};

/** Values of `model_type` that can be loaded. */
export function supportedFamilies(): readonly Family[] {
  return Object.keys(FAMILIES) as Family[];
}

/** The model that a parsed config.json describes. Errors name the key; `place` is the file. */
export function modelFromConfig(json: unknown, place = 'config.json'): Model {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError(place, 'an object', json);
  }
  const config = json as Readonly<Record<string, unknown>>;
  const type = config.model_type;
  if (typeof type !== 'string' || !Object.hasOwn(FAMILIES, type)) {
    throw new ConfigError(`${place}.model_type`, `one of ${Object.keys(FAMILIES).join(', ')}`, type);
  }
  return FAMILIES[type as Family](config, place);
}
