// How a parameter is cut over the ranks of a tensor group: which of its elements a rank holds, and in which order. Pure arithmetic,
// shared by the passes, by what loads and saves weights, and by checkpoints.
import { elementCount } from './graph.js';

/**
 * A cut of one dim: it is read as `blocks` runs of equal length (q, k and v in one matrix), each of which is cut into `parts` of
 * equal length, the last ones shorter or empty where the run does not divide: such ranks hold zeros behind what is theirs. Rank r of
 * `ranks` holds part floor(r * parts / ranks) of every block. Fewer parts than ranks (key-value heads, or one part: the whole) are held by
 * neighbours alike, whose gradients are parts of a sum.
 */
export interface Cut {
  /** Of the whole parameter. */
  readonly dims: readonly number[];
  readonly dim: 0 | 1;
  readonly blocks: number;
  readonly parts: number;
  readonly ranks: number;
}

/** Elements that follow each other in the whole, flattened, and in what a rank holds of it. */
export interface Run {
  readonly whole: number;
  readonly held: number;
  readonly length: number;
}

/** `rows` runs of equal length, `stride` elements apart in the whole and `heldStride` in what a rank holds. */
export interface RunGrid extends Run {
  readonly rows: number;
  readonly stride: number;
  readonly heldStride: number;
}

/** Length along the cut dim of what a rank holds, padding included. */
export function heldLength({ dims, dim, blocks, parts }: Cut): number {
  return blocks * Math.ceil(dims[dim]! / blocks / parts);
}

/** Dims of what every rank holds. */
export function heldDims(cut: Cut): readonly number[] {
  return cut.dims.map((length, dim) => (dim === cut.dim ? heldLength(cut) : length));
}

/** The part that `rank` holds. */
export function partOf({ parts, ranks }: Cut, rank: number): number {
  return Math.floor((rank * parts) / ranks);
}

/** How many ranks hold the same elements. */
export function copiesOf({ parts, ranks }: Cut): number {
  return ranks / parts;
}

/** Whether `rank` is the first of those that hold the same elements. */
export function isFirstHolder(cut: Cut, rank: number): boolean {
  return rank % copiesOf(cut) === 0;
}

/** Where the blocks of what `rank` holds lie along the cut dim, padding left out. */
function blocksOf(cut: Cut, rank: number): readonly Run[] {
  const block = cut.dims[cut.dim]! / cut.blocks;
  const size = Math.ceil(block / cut.parts);
  const first = partOf(cut, rank) * size;
  const length = Math.max(0, Math.min(size, block - first));
  return Array.from({ length: length === 0 ? 0 : cut.blocks }, (_, index) => {
    return { whole: index * block + first, held: index * size, length };
  });
}

/** Where the elements that `rank` holds lie. */
export function gridsOf(cut: Cut, rank: number): readonly RunGrid[] {
  const [outer, inner] = [elementCount(cut.dims.slice(0, cut.dim)), elementCount(cut.dims.slice(cut.dim + 1))];
  return blocksOf(cut, rank).map(({ whole, held, length }) => ({
    whole: whole * inner,
    held: held * inner,
    length: length * inner,
    rows: outer,
    stride: cut.dims[cut.dim]! * inner,
    heldStride: heldLength(cut) * inner,
  }));
}

/** The same, run by run. */
export function runsOf(cut: Cut, rank: number): readonly Run[] {
  return gridsOf(cut, rank).flatMap(({ whole, held, length, rows, stride, heldStride }) =>
    Array.from({ length: rows }, (_, row) => ({ whole: whole + row * stride, held: held + row * heldStride, length })),
  );
}

/** `1-3-2-0-16x48`: along dim 1 of a 16 × 48 matrix, each of its 3 blocks in 2 parts, of which this is part 0. */
export function cutText(cut: Cut, rank: number): string {
  const { dims, dim, blocks, parts } = cut;
  return [dim, blocks, parts, partOf(cut, rank), dims.join('x')].join('-');
}

/** What {@link cutText} wrote: a cut over as many ranks as parts, and the rank of the part. Null for any other text. */
export function parseCut(text: string): { readonly cut: Cut; readonly rank: number } | null {
  const found = /^([01])-(\d+)-(\d+)-(\d+)-(\d+(?:x\d+)*)$/.exec(text);
  if (!found) return null;
  const [dim, blocks, parts, rank] = found.slice(1, 5).map(Number) as [0 | 1, number, number, number];
  const dims = found[5]!.split('x').map(Number);
  const isSound = dim < dims.length && blocks > 0 && parts > 0 && rank < parts && dims[dim]! % blocks === 0;
  return isSound ? { cut: { dims, dim, blocks, parts, ranks: parts }, rank } : null;
}

/** What `rank` holds of a whole parameter. */
export function takeShard<T extends Float32Array | Uint16Array>(values: T, cut: Cut, rank: number): T {
  const held = new (values.constructor as new (length: number) => T)(elementCount(heldDims(cut)));
  for (const { whole, held: at, length, rows, stride, heldStride } of gridsOf(cut, rank)) {
    for (let row = 0; row < rows; row++)
      held.set(values.subarray(whole + row * stride, whole + row * stride + length), at + row * heldStride);
  }
  return held;
}

/** Puts what `rank` holds where it belongs in the whole parameter. */
export function putShard(whole: Float32Array, held: Float32Array, cut: Cut, rank: number): void {
  for (const { whole: to, held: at, length, rows, stride, heldStride } of gridsOf(cut, rank)) {
    for (let row = 0; row < rows; row++)
      whole.set(held.subarray(at + row * heldStride, at + row * heldStride + length), to + row * stride);
  }
}

/** The elements that `a` and `b` both hold, as stretches of either. Both by where they lie in the whole, as {@link sortedRuns} gives them. */
export function commonRuns(
  a: readonly Run[],
  b: readonly Run[],
): readonly { readonly a: number; readonly b: number; readonly length: number }[] {
  const found: { a: number; b: number; length: number }[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [left, right] = [a[i]!, b[j]!];
    const start = Math.max(left.whole, right.whole);
    const end = Math.min(left.whole + left.length, right.whole + right.length);
    if (start < end)
      found.push({ a: left.held + start - left.whole, b: right.held + start - right.whole, length: end - start });
    if (left.whole + left.length < right.whole + right.length) i++;
    else j++;
  }
  return found;
}

/** What is held from element `start` to `end`, in the order of the whole; of what is not cut, `cut` is null. */
export function sortedRuns(cut: Cut | null, rank: number, start: number, end: number): readonly Run[] {
  if (!cut) return [{ whole: start, held: start, length: end - start }];
  return heldWithin(runsOf(cut, rank), start, end).toSorted((a, b) => a.whole - b.whole);
}

/** The parts of `runs` that are held from element `start` to `end`. */
export function heldWithin(runs: readonly Run[], start: number, end: number): readonly Run[] {
  return runs.flatMap((run) => {
    const from = Math.max(run.held, start);
    const length = Math.min(run.held + run.length, end) - from;
    return length > 0 ? [{ whole: run.whole + from - run.held, held: from, length }] : [];
  });
}
