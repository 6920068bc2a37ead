// Pass: ZeRO stage 2 (arXiv:1910.02054 §5.2). The gradients of a bucket live in scratch memory from their first write to
// their reduction; what lasts is this rank's slice of their sum. After the last write to a bucket follows its reduce_scatter,
// on the communication stream (or what takes its place: reduce-bucket.ts). What waits for an exchange stands one bucket later, so
// that the backward never waits for a reduction that has had no time, and at most two finished buckets exist at once (without
// overlap: one).
import { GraphBuilder } from '../builder.js';
import type { Graph, Op, Tensor } from '../graph.js';
import type { Bucket, Layout } from '../layout.js';
import { groupIndex } from '../mesh.js';
import type { Place, PlacedGraph } from '../plan/placement.js';
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
  { overlapComm }: Pick<ZeroTuning, 'overlapComm'> = ZERO_TUNING,
  hops: readonly Hop[] | null = null,
): PlacedGraph {
  const { graph } = placed;
  const builder = new GraphBuilder(graph);
  const places = new Map(placed.places);
  const scratch = new Map(placed.scratch);
  const at = (tensor: Tensor, buffer: string, offset: number): void => {
    const place: Place = { buffer, offsetBytes: offset * BYTES };
    places.set(tensor.id, place);
  };

  const insertions = readyBuckets(graph, layout).map(({ bucket, lastWrite }) => {
    const { name, elements, sliceElements, sliceOffset } = bucket;
    const region = `gradients.${name}`;
    scratch.set(region, elements * BYTES);
    const written: (readonly [start: number, end: number])[] = [];
    for (const { name: parameter, offset, length } of bucket.parameters) {
      const ids = chainOf(graph, parameter);
      for (const id of ids) places.set(id, { buffer: region, offsetBytes: offset * BYTES });
      if (ids.length > 0) written.push([offset, offset + length]);
    }

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
    return { lastWrite, phases: counts };
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
  const elements = layout.sliceElements;
  const cleared = builder.op('fill', 'gradients', [], { value: 0, elements }, 'gradient')[0]!;
  const places = new Map([[cleared.id, { buffer: 'gradients', offsetBytes: 0 }]]);
  return { graph: builder.build(), places, buffers: new Map([['gradients', elements * BYTES]]) };
}

/** Buckets in the order in which their last gradient is written, with the op that writes it. */
function readyBuckets(
  graph: Graph,
  layout: Layout,
): readonly { readonly bucket: Bucket; readonly lastWrite: number }[] {
  const writtenBy = new Map(graph.ops.flatMap((op, index) => op.outputs.map((id) => [id, index] as const)));
  return layout.buckets
    .map((bucket) => {
      const ids = bucket.parameters.flatMap(({ name }) => chainOf(graph, name));
      return { bucket, lastWrite: Math.max(-1, ...ids.map((id) => writtenBy.get(id) ?? -1)) };
    })
    .filter(({ lastWrite }) => lastWrite >= 0)
    .sort((a, b) => a.lastWrite - b.lastWrite);
}

/** The gradient of a parameter and the earlier writes that it adds to (uses of a tied weight); none for a frozen one. */
function chainOf(graph: Graph, parameter: string): readonly number[] {
  const ids: number[] = [];
  for (let id = graph.gradients.get(parameter) ?? null; id !== null; id = graph.tensors[id]!.continues) ids.push(id);
  return ids;
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
