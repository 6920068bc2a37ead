// Pass: ZeRO stage 2 (arXiv:1910.02054 §5.2). The gradients of a bucket live in scratch memory from their first write to
// their reduction; what lasts is this rank's slice of their sum. After the last write to a bucket follows its reduce_scatter,
// on the communication stream (or what takes its place: reduce-bucket.ts). What waits for an exchange stands one bucket later, so
// that the backward never waits for a reduction that has had no time, and at most two finished buckets exist at once (without
// overlap: one). A tied embedding of more than reduceBucketSize elements is reduced twice, as the backward begins and as it ends: else it is
// whole all the time.
import { GraphBuilder } from '../builder.js';
import type { Op, Tensor } from '../graph.js';
import type { Layout } from '../layout.js';
import { groupIndex } from '../mesh.js';
import type { Place, PlacedGraph } from '../plan/placement.js';
import { gradientSegments, separated } from './gradient-segments.js';
import { type Hop, quantisedReduction } from './reduce-bucket.js';
import { ZERO_TUNING, type ZeroTuning } from './zero-tuning.js';

const BYTES = 4;

/**
 * `placed` has its gradients in the whole buffer `gradients`; the result has slices there (number `rank` of the `zero` group), which
 * the caller clears per step. `hops`: the exchanges of gradients in 4 bits; null where they are reduced as they are.
 */
export function partitionGradients(
  placed: PlacedGraph,
  layout: Layout,
  rank: number,
  { overlapComm, reduceBucketSize }: Pick<ZeroTuning, 'overlapComm' | 'reduceBucketSize'> = ZERO_TUNING,
  hops: readonly Hop[] | null = null,
): PlacedGraph {
  const segments = gradientSegments(placed.graph, layout, reduceBucketSize);
  const graph = separated(placed.graph, segments, true);
  const builder = new GraphBuilder(graph);
  const places = new Map(placed.places);
  const scratch = new Map(placed.scratch);
  const at = (tensor: Tensor, buffer: string, offset: number): void => {
    const place: Place = { buffer, offsetBytes: offset * BYTES };
    places.set(tensor.id, place);
  };

  const insertions = segments.map(({ bucket, region, writes, last }) => {
    const { name, elements, sliceElements, sliceOffset } = bucket;
    scratch.set(region, elements * BYTES);
    for (const { place, id } of writes) places.set(id, { buffer: region, offsetBytes: place.offset * BYTES });
    const written = writes.map(({ place: { offset, length } }) => [offset, offset + length] as const);

    // What no gradient is written to (padding, frozen parameters) must not add what the arena held before.
    const gaps = gapsBetween(written, elements);
    for (const [start, end] of gaps) {
      const attributes = { value: 0, elements: end - start };
      at(builder.op('fill', name, [], attributes, 'gradient')[0]!, region, start);
    }
    const whole = builder.input(region, 'f32', [elements], 'gradient');
    at(whole, region, 0);
    const reduce = (): Tensor => {
      const attributes = { group: groupIndex('zero'), slice: sliceElements };
      const slice = builder.op('reduce_scatter', name, [whole], attributes, 'gradient')[0]!;
      at(slice, region, rank * sliceElements);
      return slice;
    };
    const phases = hops ? quantisedReduction(builder, bucket, whole, hops) : [reduce, () => slice];
    let slice = whole;
    const counts = phases.map((emit) => {
      const before = builder.opCount;
      slice = emit();
      return builder.opCount - before;
    });
    const sum = builder.input(`${region}.sum`, 'f32', [sliceElements], 'gradient');
    at(sum, 'gradients', sliceOffset);
    at(builder.op('add', name, [sum, slice], {}, 'gradient')[0]!, 'gradients', sliceOffset);
    counts[0]! += gaps.length;
    counts[counts.length - 1]! += 1;
    return { lastWrite: last, phases: counts };
  });

  const built = builder.build(graph.gradients);
  const buffers = new Map([...placed.buffers, ['gradients', layout.sliceElements * BYTES] as const]);
  return {
    graph: { ...built, ops: interleave(built.ops, graph.ops.length, insertions, overlapComm) },
    places,
    buffers,
    scratch,
  };
}

/** The program that begins a step: sets the slices of the gradients to zero. */
export function clearGradients(layout: Layout): PlacedGraph {
  const builder = new GraphBuilder();
  const places = new Map<number, Place>();
  for (const { name, sliceElements: elements, sliceOffset } of layout.buckets) {
    const [cleared] = builder.op('fill', name, [], { value: 0, elements }, 'gradient');
    places.set(cleared!.id, { buffer: 'gradients', offsetBytes: sliceOffset * BYTES });
  }
  return { graph: builder.build(), places, buffers: new Map([['gradients', layout.sliceElements * BYTES]]) };
}

function gapsBetween(ranges: readonly (readonly [number, number])[], end: number) {
  const gaps: (readonly [start: number, end: number])[] = [];
  let covered = 0;
  for (const [from, to] of [...ranges, [end, end] as const].toSorted((a, b) => a[0] - b[0])) {
    if (from > covered) gaps.push([covered, from]);
    covered = Math.max(covered, to);
  }
  return gaps;
}

/** One bucket's ops behind those of the graph, by phase. */
interface Insertion {
  readonly lastWrite: number;
  readonly phases: readonly number[];
}

/**
 * Moves the ops appended behind the first `count` to where they belong: the first phase of a bucket behind its last write, each
 * further one behind the first phase of the next bucket.
 */
function interleave(
  ops: readonly Op[],
  count: number,
  insertions: readonly Insertion[],
  isOverlapped: boolean,
): readonly Op[] {
  const result: Op[] = [];
  let copied = 0;
  let next = count;
  let open: (readonly Op[])[][] = []; // phases of earlier buckets that are still to come
  const goOn = () => {
    for (const phases of open) result.push(...phases.shift()!);
    open = open.filter((phases) => phases.length > 0);
  };
  for (const { lastWrite, phases } of insertions) {
    result.push(...ops.slice(copied, lastWrite + 1));
    copied = Math.max(copied, lastWrite + 1);
    const parts = phases.map((length) => {
      next += length;
      return ops.slice(next - length, next);
    });
    result.push(...parts[0]!);
    goOn();
    open.push(parts.slice(1));
    while (!isOverlapped && open.length > 0) goOn();
  }
  result.push(...ops.slice(copied, count));
  while (open.length > 0) goOn();
  return result;
}
