// Packs sequences into rows of T tokens without padding between them (best fit decreasing) and lays rows out as model inputs.
// Pure: the same lengths, seed and epoch give the same rows whoever asks, and row n of the run can be asked for directly.
import { ConfigError } from '../common/index.js';
import { randomFrom, seedOf } from './random.js';
import type { Sequences, TokenShard } from './tokenise.js';

/** Inputs of one micro-batch: `rows` rows of `tokensPerRow`, flat, N = rows × tokensPerRow. */
export interface Minibatch {
  readonly rows: number;
  readonly tokensPerRow: number;
  /** Token ids [N]. */
  readonly ids: Int32Array;
  /** The token that each position must predict, -100 where nothing is learned [N]; never a token of another sequence. */
  readonly labels: Int32Array;
  /** Position inside the own sequence [N]. */
  readonly positions: Int32Array;
  /** Half-open range of the own sequence, as indices into [0, N) [N]. Padding is a sequence of one. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** How many rows have a label or targets. */
  readonly labelCount: number;
  /** [N, columns] of models that predict several numbers of a row, NaN where nothing is learned. */
  readonly targets?: Float32Array;
  /** Which of two texts a token is of [N], for models that tell them apart. */
  readonly types?: Int32Array;
}

/** The label of a token that no loss is taken of, as in PyTorch. */
export const IGNORED_LABEL = -100;

/** Rows of one epoch: row r holds the sequences `sequences[rowStarts[r] .. rowStarts[r + 1])`. */
export interface PackedRows {
  readonly sequences: Int32Array;
  readonly rowStarts: Int32Array;
}

/**
 * Packs all sequences once, longest first, each into the fullest row that still has room. `seed` and `epoch` decide which of
 * equally long sequences goes where and the order of rows; the number of rows depends on the lengths alone.
 */
export function packEpoch(lengths: ArrayLike<number>, tokensPerRow: number, seed: number, epoch: number): PackedRows {
  const random = randomFrom(seedOf('pack', seed, epoch));
  const order = random.shuffle(Array.from({ length: lengths.length }, (_unused, index) => index));
  order.sort((a, b) => lengths[b]! - lengths[a]!); // stable: ties keep the shuffled order
  const rows: number[][] = [];
  const open = new OpenRows(tokensPerRow);
  for (const sequence of order) {
    const length = lengths[sequence]!;
    if (!(length >= 1 && length <= tokensPerRow))
      throw new ConfigError('sequenceLength', `at least the longest sequence (${length} tokens)`, tokensPerRow);
    const fit = open.take(length);
    const row = fit === null ? rows.push([]) - 1 : fit.row;
    rows[row]!.push(sequence);
    open.put(row, (fit === null ? tokensPerRow : fit.room) - length);
  }
  const shuffled = random.shuffle(rows);
  const rowStarts = new Int32Array(shuffled.length + 1);
  shuffled.forEach((row, index) => {
    rowStarts[index + 1] = rowStarts[index]! + row.length;
  });
  return { sequences: Int32Array.from(shuffled.flat()), rowStarts };
}

/** Rows by the room they have left, with the least sufficient room found in O(log T). */
class OpenRows {
  readonly #byRoom: number[][];
  readonly #leaves: number;
  readonly #isAny: Uint8Array; // a binary tree over rooms: whether any row below has that room

  constructor(tokensPerRow: number) {
    this.#byRoom = Array.from({ length: tokensPerRow + 1 }, () => []);
    this.#leaves = 2 ** Math.ceil(Math.log2(tokensPerRow + 1));
    this.#isAny = new Uint8Array(2 * this.#leaves);
  }

  put(row: number, room: number): void {
    if (room === 0) return;
    this.#byRoom[room]!.push(row);
    for (let node = this.#leaves + room; node >= 1 && this.#isAny[node] === 0; node >>= 1) this.#isAny[node] = 1;
  }

  take(length: number): { readonly row: number; readonly room: number } | null {
    const room = this.#leastFrom(length);
    if (room === null) return null;
    const rows = this.#byRoom[room]!;
    const row = rows.pop()!;
    if (rows.length === 0) {
      let node = this.#leaves + room;
      this.#isAny[node] = 0;
      for (node >>= 1; node >= 1 && !this.#isAny[2 * node] && !this.#isAny[2 * node + 1]; node >>= 1)
        this.#isAny[node] = 0;
    }
    return { row, room };
  }

  #leastFrom(length: number): number | null {
    let node = this.#leaves + length;
    if (this.#isAny[node]) return length;
    // Up until a sibling to the right has something, then down its left edge.
    while (node > 1 && (node % 2 === 1 || !this.#isAny[node + 1])) node >>= 1;
    if (node <= 1) return null;
    node += 1;
    while (node < this.#leaves) node = this.#isAny[2 * node] ? 2 * node : 2 * node + 1;
    return node - this.#leaves;
  }
}

/** What planning needs to know of the sequences: not their tokens. */
export interface SequenceSizes {
  readonly lengths: Int32Array;
  /** Trainable tokens of each sequence. */
  readonly labelCounts: Int32Array;
}

/** Tokens of sequence `index` of a shard that some token before them is to predict. */
export function trainedTokens({ offsets, isTrained }: TokenShard, index: number): number {
  let count = 0;
  for (let at = offsets[index]! + 1; at < offsets[index + 1]!; at += 1) count += isTrained[at]!;
  return count;
}

/** Sizes of all sequences of `shards`, in their order. */
export function sizesOf<S extends Sequences>(
  shards: readonly S[],
  labelCountOf: (shard: S, index: number) => number,
): SequenceSizes {
  const count = shards.reduce((sum, shard) => sum + shard.offsets.length - 1, 0);
  const lengths = new Int32Array(count);
  const labelCounts = new Int32Array(count);
  let sequence = 0;
  for (const shard of shards)
    for (let index = 0; index + 1 < shard.offsets.length; index += 1, sequence += 1) {
      lengths[sequence] = shard.offsets[index + 1]! - shard.offsets[index]!;
      labelCounts[sequence] = labelCountOf(shard, index);
    }
  return { lengths, labelCounts };
}

/** The endless stream of rows of a run: epoch after epoch, addressed by number so that a resumed run continues exactly. */
export class RowStream {
  readonly rowsPerEpoch: number;
  readonly #epochs = new Map<number, PackedRows>();
  constructor(
    readonly sizes: SequenceSizes,
    readonly tokensPerRow: number,
    readonly seed: number,
  ) {
    if (sizes.lengths.length === 0) throw new ConfigError('data', 'at least one sequence', 'none');
    this.rowsPerEpoch = this.#epoch(0).rowStarts.length - 1;
  }

  /** The sequences of row `index` of the run (0 is the first row of the first epoch). */
  row(index: number): number[] {
    const { sequences, rowStarts } = this.#epoch(this.epochOf(index));
    const row = index % this.rowsPerEpoch;
    return Array.from(sequences.subarray(rowStarts[row], rowStarts[row + 1]));
  }

  /** Which pass over the data row `index` belongs to, from 0. */
  epochOf(index: number): number {
    return Math.floor(index / this.rowsPerEpoch);
  }

  /** Trainable tokens in rows [from, to): the divisor of a step's loss. */
  labelCount(from: number, to: number): number {
    let count = 0;
    for (let index = from; index < to; index += 1)
      for (const sequence of this.row(index)) count += this.sizes.labelCounts[sequence]!;
    return count;
  }

  #epoch(epoch: number): PackedRows {
    let rows = this.#epochs.get(epoch);
    if (!rows) {
      rows = packEpoch(this.sizes.lengths, this.tokensPerRow, this.seed, epoch);
      for (const kept of this.#epochs.keys()) if (kept < epoch - 1) this.#epochs.delete(kept);
      this.#epochs.set(epoch, rows);
    }
    return rows;
  }
}

/** A micro-batch with its tokens in place, for labels to be written into. */
export type Unlabelled = Omit<Minibatch, 'labelCount' | 'targets' | 'types'>;

/** Where a sequence lies: tokens [`from`, `to`) of its shard, from row `at` of the micro-batch on. */
export interface LaidOut<S> {
  readonly shard: S;
  /** Number in the shard, and over all shards. */
  readonly index: number;
  readonly sequence: number;
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

/** Lays `rows` (lists of sequence numbers over all `shards`) out; `label` writes the labels of each sequence and counts them. */
export function layOutSequences<S extends Sequences>(
  rows: readonly (readonly number[])[],
  shards: readonly S[],
  tokensPerRow: number,
  padId: number,
  label: (batch: Unlabelled, sequence: LaidOut<S>) => number,
): Minibatch {
  const size = rows.length * tokensPerRow;
  const batch: Unlabelled = {
    rows: rows.length,
    tokensPerRow,
    ids: new Int32Array(size).fill(padId),
    labels: new Int32Array(size).fill(IGNORED_LABEL),
    positions: new Int32Array(size),
    starts: Int32Array.from({ length: size }, (_unused, at) => at),
    ends: Int32Array.from({ length: size }, (_unused, at) => at + 1),
  };
  let labelCount = 0;
  rows.forEach((row, rowIndex) => {
    let at = rowIndex * tokensPerRow;
    for (const sequence of row) {
      const { shard, index } = find(shards, sequence);
      const [from, to] = [shard.offsets[index]!, shard.offsets[index + 1]!];
      const end = at + to - from;
      batch.ids.set(shard.tokens.subarray(from, to), at);
      for (let row = at; row < end; row += 1) batch.positions[row] = row - at;
      batch.starts.fill(at, at, end);
      batch.ends.fill(end, at, end);
      labelCount += label(batch, { shard, index, sequence, from, to, at });
      at = end;
    }
  });
  return { ...batch, labelCount };
}

/** Lays `rows` out for a model that predicts the next token. */
export function layOutRows(
  rows: readonly (readonly number[])[],
  shards: readonly TokenShard[],
  tokensPerRow: number,
  padId: number,
): Minibatch {
  return layOutSequences(rows, shards, tokensPerRow, padId, ({ labels }, { shard, from, to, at }) => {
    let count = 0;
    for (let token = from + 1; token < to; token += 1) {
      if (shard.isTrained[token] !== 1) continue;
      labels[at + token - from - 1] = shard.tokens[token]!;
      count += 1;
    }
    return count;
  });
}

function find<S extends Sequences>(
  shards: readonly S[],
  sequence: number,
): { readonly shard: S; readonly index: number } {
  let index = sequence;
  for (const shard of shards) {
    if (index < shard.offsets.length - 1) return { shard, index };
    index -= shard.offsets.length - 1;
  }
  throw new RangeError(`sequence ${sequence} is in none of ${shards.length} shards`);
}
