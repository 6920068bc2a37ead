// `sft`: supervised fine-tuning on instructions, prompts with completions, or chats.
import { z } from 'zod';
import { put, task } from '../client/index.js';
import { decodeRecord, type InstructionRecord, type PlacedRecord, trainedTokens } from '../data/index.js';
import { layOutAnswers, tokeniseAnswers } from './data-tasks.js';
import { evaluateFolder, summarise } from './evaluate.js';
import { Feed } from './feed.js';
import { type AdapterOptions, adapterFields, adapterOf } from './lora-options.js';
import { parse } from './parse.js';
import { type DataChoice, type Recipe, type RecipeOptions, recipeFields } from './recipe.js';
import { expectData, partsOf, recordsOf, skipsBad, split } from './recipe-data.js';

/** Options of {@link sft}. */
export interface SftOptions extends RecipeOptions, AdapterOptions {
  /** A file, http(s) URL or hf:ID in Alpaca, prompt/completion or messages format, or records. */
  readonly data: DataChoice<InstructionRecord>;
  /** What is measured and not trained on, in the same formats. Default: a share `heldOut` of the data. */
  readonly evaluationData?: DataChoice<InstructionRecord>;
  /** Share of the data that is held out, chosen by the seed. Default 0: none. */
  readonly heldOut?: number;
  readonly template?: 'alpaca' | 'short';
}

const schema = z.strictObject({
  ...recipeFields,
  sequenceLength: z.int().min(2).default(1024),
  template: z.enum(['alpaca', 'short']).default('alpaca'),
  evaluationData: z.unknown().optional(),
  heldOut: z.number().min(0).lt(1).default(0),
  ...adapterFields,
});

/** Supervised fine-tuning: the loss is on the answers alone, each token counting the same over the whole step. */
export function sft(options: SftOptions): Recipe {
  const checked = parse(schema, options, 'sft', Object.keys(schema.shape));
  expectData(options.data, 'sft.data');
  const { model, data, tokenizer = null, evaluationData } = options;
  if (evaluationData !== undefined) expectData(evaluationData, 'sft.evaluationData');
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
      const { template, sequenceLength, seed } = checked;
      const given =
        evaluationData === undefined ? null : await recordsOf(evaluationData, decodeRecord, 'sft.evaluationData');
      const sides = split(records, given ? 0 : checked.heldOut, seed);
      const held = given?.records ?? sides.heldOut;
      const feedOf = (those: readonly PlacedRecord[], from: DataChoice<InstructionRecord>) =>
        Feed.prepare(
          those,
          chosen,
          {
            options: { template, maxTokens: sequenceLength, skipBad: skipsBad(from) },
            tokenise: tokeniseAnswers,
            layOut: layOutAnswers,
            labelCountOf: trainedTokens,
          },
          seed,
        );
      const feed = await feedOf(sides.train, data);
      const isMeasured = held.length > 0;
      const evaluate = async (folder: string, parts: number) => {
        const files = put(chosen.tokenizer.files);
        const measure = task(evaluateFolder);
        const options = { template, sequenceLength, maxNewTokens: 0, threads: 1 };
        const found = await Promise.all(partsOf(held, parts).map((part) => measure(folder, files, part, options)));
        const { loss, perplexity } = summarise(found);
        return { records: held.length, loss, perplexity };
      };
      return {
        records: records.length,
        skippedRecords: skipped,
        feed,
        heldOut: isMeasured ? () => feedOf(held, evaluationData ?? data) : null,
        evaluate: isMeasured ? evaluate : null,
      };
    },
  };
}
