// Rows of a reference batch as one packed micro-batch: sequences one after the other, padding as segments of one row.
import type { TokenBatch } from '#src/engine/index.js';

const IGNORED = -100;

export interface Rows {
  readonly ids: Int32Array;
  /** Number of the sequence of each token, equal for neighbours of one; -1 in padding. */
  readonly sequence: Int32Array;
  /** The label of the token itself, as Transformers takes them (not shifted). */
  readonly labels: Int32Array;
}

/** Row t of the batch is element t of the flattened reference. Positions count from 0 in each sequence. */
export function packRows({ ids, sequence, labels }: Rows): TokenBatch {
  const rows = ids.length;
  const batch = {
    ids: Int32Array.from(ids),
    positions: new Int32Array(rows),
    starts: Int32Array.from({ length: rows }, (_, t) => t),
    ends: Int32Array.from({ length: rows }, (_, t) => t + 1),
    labels: new Int32Array(rows).fill(IGNORED),
  };
  for (let start = 0; start < rows; ) {
    if (sequence[start] === -1) {
      batch.ids[start] = 0;
      start++;
      continue;
    }
    let end = start;
    while (end < rows && sequence[end] === sequence[start]) end++;
    for (let t = start; t < end; t++) {
      batch.positions[t] = t - start;
      batch.starts[t] = start;
      batch.ends[t] = end;
      if (t + 1 < end) batch.labels[t] = labels[t + 1]!;
    }
    start = end;
  }
  return batch;
}

/** Sequences of a batch [B, T] padded on the right. */
export function paddedRows(ids: Int32Array, mask: Int32Array, labels: Int32Array, length: number): Rows {
  return { ids, labels, sequence: mask.map((real, i) => (real ? Math.floor(i / length) : -1)) };
}

/** Documents of rows [B, T] by number; a number may come again in another row. */
export function documentRows(ids: Int32Array, documents: Int32Array, labels: Int32Array, length: number): Rows {
  const perRow = Math.max(...documents) + 1;
  return { ids, labels, sequence: documents.map((doc, i) => (doc < 0 ? -1 : Math.floor(i / length) * perRow + doc)) };
}

export function labelCount(batch: TokenBatch): number {
  return batch.labels.reduce((count, label) => (label === IGNORED ? count : count + 1), 0);
}

/** The same rows for a classifier: the first row of each sequence has the sequence's class, no other has a label. */
export function classified(rows: Rows, classes: Int32Array, types: Int32Array): TokenBatch {
  const batch = packRows(rows);
  const labels = rows.sequence.map((sequence, t) =>
    sequence !== -1 && batch.positions[t] === 0 ? classes[sequence]! : IGNORED,
  );
  return { ...batch, labels, types };
}
