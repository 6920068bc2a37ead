// `sft`: supervised fine-tuning on instructions, prompts with completions, or chats.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import { decodeRecord, type InstructionRecord, trainedTokens } from '../data/index.js';
import { layOutAnswers, tokeniseAnswers } from './data-tasks.js';
import { Feed } from './feed.js';
import { checkLora, type LoraOptions } from './lora-options.js';
import { parse } from './parse.js';
import { type DataChoice, type Recipe, type RecipeOptions, recipeFields } from './recipe.js';
import { expectData, recordsOf, skipsBad } from './recipe-data.js';

export interface SftOptions extends RecipeOptions {
  /** A file, http(s) URL or hf:ID in Alpaca, prompt/completion or messages format, or records. */
  readonly data: DataChoice<InstructionRecord>;
  readonly template?: 'alpaca' | 'short';
  /** Train a low-rank adapter (arXiv:2106.09685) and leave the model as it is. `{}` for the defaults. */
  readonly lora?: LoraOptions;
  /**
   * The frozen weights of linear layers in 4 bits (QLoRA, arXiv:2305.14314), with `lora` alone. `doubleQuant` (default true) stores
   * the scales in 8 bits.
   */
  readonly quantization?: { readonly bits: 4; readonly type?: 'nf4'; readonly doubleQuant?: boolean };
}

const schema = z.strictObject({
  ...recipeFields,
  sequenceLength: z.int().min(2).default(1024),
  template: z.enum(['alpaca', 'short']).default('alpaca'),
  lora: z.unknown().optional(), // checked by its own schema
  quantization: z
    .strictObject({ bits: z.literal(4), type: z.literal('nf4').default('nf4'), doubleQuant: z.boolean().default(true) })
    .nullable()
    .default(null),
});

/** Supervised fine-tuning: the loss is on the answers alone, each token counting the same over the whole step. */
export function sft(options: SftOptions): Recipe {
  const checked = parse(schema, options, 'sft', Object.keys(schema.shape));
  expectData(options.data, 'sft.data');
  const { model, data, tokenizer = null } = options;
  const lora = options.lora === undefined ? null : checkLora(options.lora);
  if (lora !== null && typeof model !== 'string')
    throw new ConfigError('sft.lora', 'a Hugging Face folder as model', model, 'An adapter needs a trained model');
  if (checked.quantization !== null && lora === null)
    throw new ConfigError('sft.quantization', 'lora beside it', 'none', 'Weights in 4 bits are not trained themselves');
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
