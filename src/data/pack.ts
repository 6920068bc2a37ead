// Packs sequences into rows of T tokens without padding between them (best fit decreasing) and lays rows out as model inputs.
// Pure: the same lengths, seed and epoch give the same rows whoever asks, and row n of the run can be asked for directly.
import { ConfigError } from '../common/index.js';
import { randomFrom, seedOf } from './random.js';
import type { TokenShard } from './tokenise.js';

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
  /** How many labels are not -100. */
  readonly labelCount: number;
}

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

/** Sizes of all sequences of `shards`, in their order. */
export function sizesOf(shards: readonly TokenShard[]): SequenceSizes {
  const count = shards.reduce((sum, shard) => sum + shard.offsets.length - 1, 0);
  const lengths = new Int32Array(count);
  const labelCounts = new Int32Array(count);
  let sequence = 0;
  for (const { offsets, isTrained } of shards)
    for (let index = 0; index + 1 < offsets.length; index += 1, sequence += 1) {
      lengths[sequence] = offsets[index + 1]! - offsets[index]!;
      for (let at = offsets[index]! + 1; at < offsets[index + 1]!; at += 1) labelCounts[sequence]! += isTrained[at]!;
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
    const { sequences, rowStarts } = this.#epoch(Math.floor(index / this.rowsPerEpoch));
    const row = index % this.rowsPerEpoch;
    return Array.from(sequences.subarray(rowStarts[row], rowStarts[row + 1]));
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

/** Lays `rows` (lists of sequence numbers over all `shards`) out as the inputs of one micro-batch. */
export function layOutRows(
  rows: readonly (readonly number[])[],
  shards: readonly TokenShard[],
  tokensPerRow: number,
  padId: number,
): Minibatch {
  const size = rows.length * tokensPerRow;
  const ids = new Int32Array(size).fill(padId);
  const labels = new Int32Array(size).fill(IGNORED_LABEL);
  const positions = new Int32Array(size);
  const starts = Int32Array.from({ length: size }, (_unused, at) => at);
  const ends = Int32Array.from({ length: size }, (_unused, at) => at + 1);
  let labelCount = 0;
  rows.forEach((row, rowIndex) => {
    let at = rowIndex * tokensPerRow;
    for (const sequence of row) {
      const { tokens, isTrained } = sequenceOf(shards, sequence);
      ids.set(tokens, at);
      for (let position = 0; position < tokens.length; position += 1) {
        positions[at + position] = position;
        if (position === 0 || isTrained[position] !== 1) continue;
        labels[at + position - 1] = tokens[position]!;
        labelCount += 1;
      }
      starts.fill(at, at, at + tokens.length);
      ends.fill(at + tokens.length, at, at + tokens.length);
      at += tokens.length;
    }
  });
  return { rows: rows.length, tokensPerRow, ids, labels, positions, starts, ends, labelCount };
}

function sequenceOf(shards: readonly TokenShard[], sequence: number): Pick<TokenShard, 'tokens' | 'isTrained'> {
  let index = sequence;
  for (const { tokens, isTrained, offsets } of shards) {
    if (index < offsets.length - 1)
      return {
        tokens: tokens.subarray(offsets[index], offsets[index + 1]),
        isTrained: isTrained.subarray(offsets[index], offsets[index + 1]),
      };
    index -= offsets.length - 1;
  }
  throw new RangeError(`sequence ${sequence} is in none of ${shards.length} shards`);
}
