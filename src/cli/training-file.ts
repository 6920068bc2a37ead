// A trainer as a JSON file: what `raylite train` runs and `raylite estimate` weighs.
import { readFile } from 'node:fs/promises';
import { ConfigError, DataError } from '../common/index.js';
import { recipeOf, type TrainerOptions } from '../train/index.js';

/** Reads the options of a Trainer; throws ConfigError or DataError that names the file. */
export async function readTrainingFile(file: string): Promise<TrainerOptions> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError)
      throw new DataError({ place: file, detail: `is not JSON (${cause.message})` }, { cause });
    throw new ConfigError('file', 'a readable JSON file', file, undefined, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError(file, 'an object with "recipe" and what else a trainer takes', json);
  const { recipe, ...rest } = json as { readonly recipe?: { readonly kind?: unknown } };
  return { ...rest, recipe: recipeOf(recipe ?? {}, `${file}.recipe`) };
}
