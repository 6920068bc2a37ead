// `sft`: supervised fine-tuning on instructions, prompts with completions, or chats.
import { z } from 'zod';
import { decodeRecord, type InstructionRecord, trainedTokens } from '../data/index.js';
import { layOutAnswers, tokeniseAnswers } from './data-tasks.js';
import { Feed } from './feed.js';
import { type AdapterOptions, adapterFields, adapterOf } from './lora-options.js';
import { parse } from './parse.js';
import { type DataChoice, type Recipe, type RecipeOptions, recipeFields } from './recipe.js';
import { expectData, recordsOf, skipsBad } from './recipe-data.js';

export interface SftOptions extends RecipeOptions, AdapterOptions {
  /** A file, http(s) URL or hf:ID in Alpaca, prompt/completion or messages format, or records. */
  readonly data: DataChoice<InstructionRecord>;
  readonly template?: 'alpaca' | 'short';
}

const schema = z.strictObject({
  ...recipeFields,
  sequenceLength: z.int().min(2).default(1024),
  template: z.enum(['alpaca', 'short']).default('alpaca'),
  ...adapterFields,
});

/** Supervised fine-tuning: the loss is on the answers alone, each token counting the same over the whole step. */
export function sft(options: SftOptions): Recipe {
  const checked = parse(schema, options, 'sft', Object.keys(schema.shape));
  expectData(options.data, 'sft.data');
  const { model, data, tokenizer = null } = options;
  const lora = adapterOf(options, checked.quantization, 'sft');
  return {
    ...checked,
    kind: 'sft',
    model,
    tokenizer,
    lora,
    hasFreshHead: false,
    configure: async (config) => config,
    async prepare(chosen) {
      const { records, skipped } = await recordsOf(data, decodeRecord, 'sft.data');
      const { template, sequenceLength: maxTokens, seed } = checked;
      const feed = await Feed.prepare(
        records,
        chosen,
        {
          options: { template, maxTokens, skipBad: skipsBad(data) },
          tokenise: tokeniseAnswers,
          layOut: layOutAnswers,
          labelCountOf: trainedTokens,
        },
        seed,
      );
      return { records: records.length, skippedRecords: skipped, feed, evaluate: null };
    },
  };
}
