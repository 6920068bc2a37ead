// The task that measures a saved classifier on labelled records.
import {
  IGNORED_LABEL,
  layOutLabelled,
  type Placed,
  sizesOf,
  type TargetRecord,
  Tokenizer,
  type TokenizerFiles,
  tokeniseLabelled,
} from '../data/index.js';
import type { Predictions } from './class-scores.js';
import type { LabelledOptions } from './data-tasks.js';
import { forwardRows, withModel } from './evaluate-rows.js';

/** Outputs of the classifier in the folder `path`, with what was expected, in no particular order. */
export function evaluateClassifier(
  path: string,
  tokenizerFiles: TokenizerFiles,
  records: readonly Placed<TargetRecord>[],
  options: LabelledOptions,
  threads: number,
): Promise<Predictions> {
  return withModel(path, threads, async (model, store) => {
    const tokenizer = new Tokenizer(tokenizerFiles);
    const shard = await tokeniseLabelled(records, tokenizer, { ...options, skipBad: true });
    const { lengths } = sizesOf([shard], () => 1);
    const layOut = (rows: readonly (readonly number[])[]) =>
      layOutLabelled(rows, [shard], options.maxTokens, tokenizer.padId ?? 0, options);
    const predictions = { outputs: [] as number[][], targets: [] as number[][] };
    for await (const { batch, result } of forwardRows(model, store, lengths, options.maxTokens, layOut, {
      hasLogits: true,
    })) {
      const columns = model.labelCount!;
      const slice = (values: Float32Array, row: number) =>
        Array.from(values.subarray(row * columns, (row + 1) * columns));
      batch.labels.forEach((label, row) => {
        const target = batch.targets ? slice(batch.targets, row) : [label];
        if (batch.targets ? target.some(Number.isNaN) : label === IGNORED_LABEL) return;
        predictions.outputs.push(slice(result.logits!, row));
        predictions.targets.push(target);
      });
    }
    return predictions;
  });
}
