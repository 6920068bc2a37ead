// What a recipe trains: the model's configuration and the tokenizer, made to agree with each other and with the recipe.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { loadTokenizer, Tokenizer } from '../data/index.js';
import { Checkpoint, type Model, modelFromConfig } from '../models/index.js';
import { configOf } from './fresh-model.js';
import type { Config, Recipe } from './recipe.js';
import { adapterConfigOf, trainedModel } from './trained-model.js';

export interface ChosenModel {
  /** config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** adapter_config.json of what is trained on it, or null. */
  readonly adapter: Readonly<Record<string, unknown>> | null;
  /** The model, with the adapter on it. */
  readonly model: Model;
  readonly tokenizer: Tokenizer;
}

export async function chosenModel(recipe: Recipe): Promise<ChosenModel> {
  const { kind, sequenceLength } = recipe;
  const tokenizer = await openTokenizer(recipe);
  const facts = { vocabSize: tokenizer.vocabSize, sequenceLength, tokenizer };
  const given =
    typeof recipe.model === 'string' ? await readConfigJson(recipe.model, kind) : configOf(recipe.model, facts);
  const config = await recipe.configure(given);
  const adapter = adapterConfigOf(recipe, modelFromConfig(config).family);
  const model = trainedModel({ config, adapter, quantization: recipe.quantization });
  if (typeof recipe.model === 'string')
    await (await openStart(recipe.model, config, freshHeadsOf(recipe)))[Symbol.asyncDispose](); // it must fit
  if (tokenizer.vocabSize > model.vocabularySize)
    throw new ConfigError(
      `${kind}.tokenizer`,
      `at most the model's ${model.vocabularySize} entries`,
      tokenizer.vocabSize,
    );
  if (sequenceLength > model.maxPositions)
    throw new ConfigError(
      `${kind}.sequenceLength`,
      `at most the model's ${model.maxPositions} positions`,
      sequenceLength,
    );
  return { config, adapter, model, tokenizer };
}

/** The checkpoint that training of `config` starts from. `freshHeads`: the seed of heads that it lacks, or null. */
export function openStart(folder: string, config: Config, freshHeads: number | null): Promise<Checkpoint> {
  return Checkpoint.open(folder, {
    as: () => modelFromConfig(config),
    ...(freshHeads === null ? {} : { freshHeads }),
  });
}

export const freshHeadsOf = ({ hasFreshHead, seed }: Recipe): number | null => (hasFreshHead ? seed : null);

/** Columns of the hidden states, as the families call them. */
export function hiddenSizeOf(config: Config): { readonly hiddenSize?: number } {
  const size = config.hidden_size ?? config.n_embd;
  return typeof size === 'number' ? { hiddenSize: size } : {};
}

async function openTokenizer({ kind, tokenizer, model }: Recipe): Promise<Tokenizer> {
  if (tokenizer instanceof Tokenizer) return tokenizer;
  if (tokenizer !== null) return loadTokenizer(tokenizer);
  if (typeof model === 'string') return loadTokenizer(model);
  throw new ConfigError(`${kind}.tokenizer`, 'a tokenizer or its folder, since the model is new', tokenizer);
}

async function readConfigJson(folder: string, kind: string): Promise<Readonly<Record<string, unknown>>> {
  const path = join(folder, 'config.json');
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new ConfigError(`${kind}.model`, 'a Hugging Face folder with config.json', folder, (cause as Error).message, {
      cause,
    });
  }
}
