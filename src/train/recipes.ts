// The recipes by name, for training files.
import { ConfigError } from '../common/index.js';
import { type ClassifyOptions, classify } from './classify.js';
import { type MaskedLmOptions, maskedLm } from './masked-lm.js';
import type { Recipe } from './recipe.js';
import { type SftOptions, sft } from './sft.js';

// Each checks its options itself.
const RECIPES: Readonly<Record<string, (options: object) => Recipe>> = {
  sft: (options) => sft(options as SftOptions),
  classify: (options) => classify(options as ClassifyOptions),
  maskedLm: (options) => maskedLm(options as MaskedLmOptions),
};

/** The recipe that plain data describe: `kind` and its options. `place` names it in errors. */
export function recipeOf({ kind, ...options }: { readonly kind?: unknown }, place: string): Recipe {
  const make = typeof kind === 'string' && Object.hasOwn(RECIPES, kind) ? RECIPES[kind] : undefined;
  if (!make) throw new ConfigError(`${place}.kind`, `one of ${Object.keys(RECIPES).join(', ')}`, kind);
  return make(options);
}
