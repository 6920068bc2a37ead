// What a recipe trains: the model's configuration and the tokenizer, made to agree with each other and with the recipe.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { loadTokenizer, Tokenizer } from '../data/index.js';
import { Checkpoint, type Model, modelFromConfig } from '../models/index.js';
import { configOf, type FreshModel, type SftRecipe } from './recipe.js';
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

export async function chosenModel(recipe: SftRecipe): Promise<ChosenModel> {
  const given = typeof recipe.model === 'string' ? await readConfigJson(recipe.model) : null;
  if (typeof recipe.model === 'string') await (await Checkpoint.open(recipe.model))[Symbol.asyncDispose](); // it must fit
  const tokenizer = await openTokenizer(recipe);
  const facts = { vocabSize: tokenizer.vocabSize, sequenceLength: recipe.sequenceLength, tokenizer };
  const config = given ?? configOf(recipe.model as FreshModel, facts);
  const adapter = adapterConfigOf(recipe, modelFromConfig(config).family);
  const model = trainedModel({ config, adapter, quantization: recipe.quantization });
  if (tokenizer.vocabSize > model.vocabularySize)
    throw new ConfigError('sft.tokenizer', `at most the model's ${model.vocabularySize} entries`, tokenizer.vocabSize);
  if (recipe.sequenceLength > model.maxPositions)
    throw new ConfigError(
      'sft.sequenceLength',
      `at most the model's ${model.maxPositions} positions`,
      recipe.sequenceLength,
    );
  return { config, adapter, model, tokenizer };
}

async function openTokenizer({ tokenizer, model }: SftRecipe): Promise<Tokenizer> {
  if (tokenizer instanceof Tokenizer) return tokenizer;
  if (tokenizer !== null) return loadTokenizer(tokenizer);
  if (typeof model === 'string') return loadTokenizer(model);
  throw new ConfigError('sft.tokenizer', 'a tokenizer or its folder, since the model is new', tokenizer);
}

async function readConfigJson(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const path = join(folder, 'config.json');
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new ConfigError('sft.model', 'a Hugging Face folder with config.json', folder, (cause as Error).message, {
      cause,
    });
  }
}
