// `maskedLm`: pre-training of BERT on texts, by guessing hidden tokens from both sides.
import { z } from 'zod';
import { put, task } from '../client/index.js';
import { ConfigError } from '../common/index.js';
import { chosenTokens, decodeText, type TextRecord } from '../data/index.js';
import { layOutMasks, type MaskedOptions, tokeniseMaskable } from './data-tasks.js';
import { Feed } from './feed.js';
import { evaluateMasked } from './masked-lm-evaluation.js';
import { parse } from './parse.js';
import { type DataChoice, type Recipe, type RecipeOptions, recipeFields } from './recipe.js';
import { expectData, partsOf, recordsOf, skipsBad, split } from './recipe-data.js';

/** Options of {@link maskedLm}. */
export interface MaskedLmOptions extends RecipeOptions {
  /** A file (JSONL or CSV with `text`, or .txt with a text a line), http(s) URL or hf:ID, or records. */
  readonly data: DataChoice<TextRecord>;
  /** What is measured at the end, not trained on. Default 0.1 of the data, chosen by the seed. */
  readonly heldOut?: number;
  /** Share of the tokens of each text that is to be guessed. Default 0.15. */
  readonly maskShare?: number;
}

const schema = z.strictObject({
  ...recipeFields,
  heldOut: z.number().min(0).lt(1).default(0.1),
  maskShare: z.number().positive().lt(1).default(0.15),
});

/** Masked language modelling (arXiv:1810.04805 §3.1), other tokens hidden in every pass; each hidden token counts the same. */
export function maskedLm(options: MaskedLmOptions): Recipe {
  const checked = parse(schema, options, 'maskedLm', Object.keys(schema.shape));
  expectData(options.data, 'maskedLm.data');
  const { model, data, tokenizer = null } = options;
  return {
    ...checked,
    kind: 'maskedLm',
    model,
    tokenizer,
    lora: null,
    quantization: null,
    hasFreshHead: true,
    async configure(config) {
      if (config.model_type !== 'bert')
        throw new ConfigError(
          'maskedLm.model',
          'a model of type bert',
          config.model_type,
          'Others predict the next token',
        );
      return { ...config, architectures: ['BertForMaskedLM'] };
    },
    async prepare(chosen) {
      const { seed, sequenceLength: maxTokens, maskShare: share } = checked;
      const { specialTokens } = chosen.tokenizer;
      const maskId = chosen.tokenizer.tokenToId(specialTokens.mask_token ?? '');
      if (maskId === null)
        throw new ConfigError('maskedLm.tokenizer', 'a tokenizer with a mask_token', Object.keys(specialTokens));
      const { records, skipped } = await recordsOf(data, decodeText, 'maskedLm.data');
      const { train, heldOut } = split(records, checked.heldOut, seed);
      const vocabularySize = chosen.tokenizer.vocabSize;
      const masking: MaskedOptions = { maxTokens, skipBad: skipsBad(data), share, maskId, vocabularySize, seed };
      const feedOf = (those: typeof train) =>
        Feed.prepare(
          those,
          chosen,
          {
            options: masking,
            tokenise: tokeniseMaskable,
            layOut: layOutMasks,
            labelCountOf: (shard, index) => chosenTokens(shard, index, share),
          },
          seed,
        );
      const feed = await feedOf(train);
      const isMeasured = heldOut.length > 0;
      const evaluate = async (folder: string, parts: number) => {
        const files = put(chosen.tokenizer.files);
        const measure = task(evaluateMasked);
        const found = await Promise.all(
          partsOf(heldOut, parts).map((part) => measure(folder, files, part, masking, 1)),
        );
        const loss = found.reduce((sum, { lossSum }) => sum + lossSum, 0);
        const tokens = found.reduce((sum, part) => sum + part.tokens, 0);
        return { records: heldOut.length, loss: loss / tokens, perplexity: Math.exp(loss / tokens) };
      };
      return {
        records: records.length,
        skippedRecords: skipped,
        feed,
        heldOut: isMeasured ? () => feedOf(heldOut) : null,
        evaluate: isMeasured ? evaluate : null,
      };
    },
  };
}
