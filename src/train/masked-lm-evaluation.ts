// The task that measures a saved masked language model on texts.
import {
  chosenTokens,
  layOutMasked,
  type Placed,
  sizesOf,
  type TextRecord,
  Tokenizer,
  type TokenizerFiles,
  tokeniseTexts,
} from '../data/index.js';
import type { MaskedOptions } from './data-tasks.js';
import { forwardRows, lossOfLabels, withModel } from './evaluate-rows.js';

/** The sum of the losses of hidden tokens, in nats, and how many there were. */
export function evaluateMasked(
  path: string,
  tokenizerFiles: TokenizerFiles,
  records: readonly Placed<TextRecord>[],
  options: MaskedOptions,
  threads: number,
): Promise<{ readonly lossSum: number; readonly tokens: number }> {
  return withModel(path, threads, async (model, store) => {
    const tokenizer = new Tokenizer(tokenizerFiles);
    const shard = await tokeniseTexts(records, tokenizer, { ...options, skipBad: true });
    const { lengths } = sizesOf([shard], (of, index) => chosenTokens(of, index, options.share));
    const layOut = (rows: readonly (readonly number[])[]) => {
      const epochs = rows.map(() => 0);
      return layOutMasked(rows, epochs, [shard], options.maxTokens, tokenizer.padId ?? 0, options);
    };
    let lossSum = 0;
    let tokens = 0;
    for await (const { batch, result } of forwardRows(model, store, lengths, options.maxTokens, layOut)) {
      lossSum += lossOfLabels(batch, result);
      tokens += batch.labelCount;
    }
    return { lossSum, tokens };
  });
}
