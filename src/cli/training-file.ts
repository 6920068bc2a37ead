// A trainer as a YAML or JSON file: what `raylite train` runs and `raylite estimate` weighs.
import { readFile } from 'node:fs/promises';
import { LineCounter, parseDocument } from 'yaml';
import { ConfigError, DataError } from '../common/index.js';
import { recipeOf, type TrainerOptions } from '../train/index.js';

/** Reads the options of a Trainer; throws ConfigError or DataError that names the file, and the line of what cannot be read. */
export async function readTrainingFile(file: string): Promise<TrainerOptions> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new ConfigError('file', 'a readable YAML or JSON file', file, undefined, { cause });
  });
  const described = /\.json$/i.test(file) ? readJson(text, file) : readYaml(text, file);
  if (typeof described !== 'object' || described === null || Array.isArray(described))
    throw new ConfigError(file, 'an object with "recipe" and what else a trainer takes', described);
  const { recipe, ...rest } = described as { readonly recipe?: { readonly kind?: unknown } };
  return { ...rest, recipe: recipeOf(recipe ?? {}, `${file}.recipe`) };
}

function readJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DataError({ place: file, detail: `is not JSON (${(cause as Error).message})` }, { cause });
  }
}

function readYaml(text: string, file: string): unknown {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const problem = document.errors[0];
  if (problem) {
    const { line, col } = lineCounter.linePos(problem.pos[0]);
    throw new DataError({ place: `${file}:${line}:${col}`, detail: problem.message }, { cause: problem });
  }
  return document.toJS({ maxAliasCount: 100 });
}
