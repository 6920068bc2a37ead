// Turns labelled texts into token sequences with the tokenizer's special tokens, and lays them out for a model that predicts
// one class or some numbers of each sequence, at its first or its last token.
import { DataError } from '../common/index.js';
import type { TargetRecord } from './labelled-records.js';
import { IGNORED_LABEL, layOutSequences, type Minibatch } from './pack.js';
import type { Placed } from './records.js';
import { joinSequences, type SequenceOptions, type Sequences } from './tokenise.js';
import type { Tokenizer } from './tokenizer.js';

/** Tokenised texts with their targets. */
export interface LabelledShard extends Sequences {
  /** Which of two texts each token is of. */
  readonly types: Uint8Array;
  /** `width` numbers of each sequence. */
  readonly targets: Float32Array;
  readonly width: number;
}

const BATCH = 512;

/** Tokenises `records` in their order, cutting the longer of two texts first. Throws {@link DataError} for one without tokens. */
export async function tokeniseLabelled(
  records: readonly Placed<TargetRecord>[],
  tokenizer: Tokenizer,
  { maxTokens, skipBad = false }: SequenceOptions,
): Promise<LabelledShard> {
  const sequences: { readonly ids: readonly number[]; readonly types: readonly number[] }[] = [];
  const kept: number[] = [];
  let truncated = 0;
  for (let from = 0; from < records.length; from += BATCH) {
    const batch = records.slice(from, from + BATCH);
    const encoded = await tokenizer.encodeTexts(
      batch.map(({ record }) => [record.text, record.text_pair ?? null]),
      maxTokens,
    );
    for (const [index, { ids, types, isCut }] of encoded.entries()) {
      if (ids.length > 0) {
        sequences.push({ ids, types });
        kept.push(from + index);
        if (isCut) truncated += 1;
      } else if (!skipBad)
        throw new DataError({
          place: batch[index]!.place,
          detail: 'has no token: the text is empty. Correct it, or leave such records out with skipBad',
        });
    }
  }
  const joined = joinSequences(sequences.map(({ ids }) => ids));
  const types = Uint8Array.from(sequences.flatMap((sequence) => sequence.types));
  const width = records[0]?.record.target.length ?? 1;
  const targets = Float32Array.from(kept.flatMap((index) => records[index]!.record.target));
  const skipped = records.length - kept.length;
  return { ...joined, types, targets, width, records: Int32Array.from(kept), truncated, skipped };
}

/** Where the labels of a classifier go. */
export interface LabelledLayout {
  /** Which token of a sequence is labelled. */
  readonly labelAt: 'first' | 'last';
  /** Whether the label is the number of a class; else the numbers themselves are learned. */
  readonly isClass: boolean;
}

/** Lays `rows` out: one row of each sequence has its class as label, or its numbers as targets. */
export function layOutLabelled(
  rows: readonly (readonly number[])[],
  shards: readonly LabelledShard[],
  tokensPerRow: number,
  padId: number,
  { labelAt, isClass }: LabelledLayout,
): Minibatch {
  const size = rows.length * tokensPerRow;
  const width = shards[0]?.width ?? 1;
  const types = new Int32Array(size);
  const targets = isClass ? null : new Float32Array(size * width).fill(Number.NaN);
  const batch = layOutSequences(rows, shards, tokensPerRow, padId, ({ labels }, { shard, index, from, to, at }) => {
    types.set(shard.types.subarray(from, to), at);
    const row = labelAt === 'first' ? at : at + to - from - 1;
    const values = shard.targets.subarray(index * width, (index + 1) * width);
    if (targets) targets.set(values, row * width);
    else labels[row] = values[0] ?? IGNORED_LABEL;
    return 1;
  });
  return { ...batch, types, ...(targets ? { targets } : {}) };
}
