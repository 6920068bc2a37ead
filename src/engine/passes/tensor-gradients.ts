// Part of the update of a tensor group: gradients of what several ranks hold alike, of which each has found a term, are added up; and the
// norm counts what is held alike once. All on the slices of this rank, so that ranks of one slice do it together at any ZeRO stage.
import type { GraphBuilder } from '../builder.js';
import { DTYPE_BYTES, type Tensor, type TensorId } from '../graph.js';
import type { Bucket, Layout, ParameterPlace } from '../layout.js';
import { groupIndex } from '../mesh.js';
import type { Place } from '../plan/placement.js';
import { copiesOf, partOf } from '../shard.js';

const BYTES = DTYPE_BYTES.f32;
const NORM_ELEMENTS = 2 ** 20;
/** Scratch that holds the terms. */
const TERMS = 'shared_gradients';

/** The gradients of a bucket that this rank reduces. */
export interface GradientSlice {
  readonly bucket: Bucket;
  /** Elements of the bucket that it has: from `first` on. */
  readonly first: number;
  readonly length: number;
  /** Where element 0 of the bucket is or would be in the buffer `gradients`. */
  readonly base: number;
}

interface Writer {
  readonly builder: GraphBuilder;
  readonly places: Map<TensorId, Place>;
  /** Size of the tensor group, and this rank's place in it. */
  readonly ranks: number;
  readonly rank: number;
}

/** Adds up the terms of what several ranks hold alike. Returns the bytes of scratch by name. */
export function sumShared(writer: Writer, slices: readonly GradientSlice[]): ReadonlyMap<string, number> {
  const { builder, places, rank } = writer;
  let elements = 0;
  const pieces = slices.flatMap((slice) =>
    slice.bucket.parameters.flatMap((place) => {
      const { cut } = place;
      const [start, end] = within(slice, place.offset, place.offset + place.length);
      if (!cut || copiesOf(cut) === 1 || start >= end) return [];
      const length = end - start;
      const at = elements + partOf(cut, rank) * length;
      elements += cut.parts * length;
      return [{ name: place.name, from: slice.base + start, at, length }];
    }),
  );
  if (pieces.length === 0) return new Map();
  const put = (tensor: Tensor, buffer: string, offset: number) => {
    places.set(tensor.id, { buffer, offsetBytes: offset * BYTES });
    return tensor;
  };
  put(builder.op('fill', TERMS, [], { value: 0, elements }, 'state')[0]!, TERMS, 0);
  for (const { name, from, at, length } of pieces) {
    const term = put(builder.input(`${TERMS}.${name}`, 'f32', [length], 'state'), 'gradients', from);
    put(builder.op('scale', name, [term], { factor: 1 }, 'state')[0]!, TERMS, at);
  }
  const whole = put(builder.input(TERMS, 'f32', [elements], 'state'), TERMS, 0);
  put(builder.op('all_reduce', TERMS, [whole], { group: groupIndex('tensor'), op: 0 }, 'state')[0]!, TERMS, 0);
  for (const { name, from, at, length } of pieces) {
    const sum = put(builder.input(`${TERMS}.${name}.sum`, 'f32', [length], 'state'), TERMS, at);
    put(builder.op('scale', name, [sum], { factor: 1 }, 'state')[0]!, 'gradients', from);
  }
  return new Map([[TERMS, elements * BYTES]]);
}

/** Sum of squares of the slices over the tensor group, of what c ranks hold alike 1 / c: a tensor of one element. */
export function sumSquaresOnce(
  { builder, places, ranks }: Writer,
  slices: readonly GradientSlice[],
  scalar: (name: string) => Tensor,
): Tensor {
  const sums = new Map<number, Tensor>();
  for (const slice of slices) {
    const runs = runsOf(slice, ranks).flatMap((run) =>
      normParts(run.end - run.start).map(([from, to]) => ({ ...run, start: run.start + from, end: run.start + to })),
    );
    for (const { start, end, copies } of runs) {
      const name = `gradients.${slice.bucket.name}.${start}`;
      const run = builder.input(name, 'f32', [end - start], 'state');
      places.set(run.id, { buffer: 'gradients', offsetBytes: (slice.base + start) * BYTES });
      const known = sums.get(copies);
      const sum = known ?? scalar(`sum_squares.${copies}`);
      const added = builder.op('sum_squares', slice.bucket.name, [run], { accumulate: known ? 1 : 0 })[0]!;
      places.set(added.id, places.get(sum.id)!);
      sums.set(copies, sum);
    }
  }
  const path = 'gradient_norm';
  const terms = [...sums].map(([copies, sum]) => builder.op('scale', path, [sum], { factor: 1 / copies })[0]!);
  const own = terms.reduce((a, b) => builder.op('add', path, [a, b])[0]!);
  return builder.op('all_reduce', path, [own], { group: groupIndex('tensor'), op: 0 })[0]!;
}

/** What the norm takes of `length` elements at a time: of gradients in a file, what is in memory at once. The same wherever they are. */
export function normParts(length: number): readonly (readonly [start: number, end: number])[] {
  const count = Math.ceil(length / NORM_ELEMENTS);
  return Array.from({ length: count }, (_, n) => [n * NORM_ELEMENTS, Math.min(length, (n + 1) * NORM_ELEMENTS)]);
}

/** Stretches of a slice that equally many ranks hold alike. Padding belongs to the parameter before it: it is zero. */
function runsOf(slice: GradientSlice, ranks: number) {
  const runs: { start: number; end: number; readonly copies: number }[] = [];
  const sorted = slice.bucket.parameters.toSorted((a, b) => a.offset - b.offset);
  for (const [index, place] of sorted.entries()) {
    const [start, end] = within(slice, place.offset, sorted[index + 1]?.offset ?? slice.first + slice.length);
    if (start >= end) continue;
    const copies = copiesHeld(place, ranks);
    const last = runs.at(-1);
    if (last?.copies === copies) last.end = end;
    else runs.push({ start, end, copies });
  }
  return runs;
}

/** How many ranks of the group hold the same. */
function copiesHeld({ cut }: Pick<ParameterPlace, 'cut'>, ranks: number): number {
  return cut ? copiesOf(cut) : ranks;
}

function within({ first, length }: GradientSlice, start: number, end: number): readonly [start: number, end: number] {
  return [Math.max(start, first), Math.min(end, first + length)];
}

/** The slices of all buckets that a partition has. */
export function slicesFor(layout: Layout, partition: number | null, isSliced: boolean): readonly GradientSlice[] {
  return layout.buckets.toReversed().map((bucket) => {
    if (partition === null) return { bucket, first: 0, length: bucket.elements, base: bucket.offset };
    const first = partition * bucket.sliceElements;
    const base = isSliced ? bucket.sliceOffset - first : bucket.offset;
    return { bucket, first, length: bucket.sliceElements, base };
  });
}
