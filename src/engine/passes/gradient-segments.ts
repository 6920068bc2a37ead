// Which ops write the gradients of a bucket, from the first to the last. What is used twice in a program (a tied embedding: by the head
// as the backward begins, by the lookup as it ends) is written twice: a large bucket then has a segment for each, if other buckets are
// complete in between, so that what it has does not wait in memory for what comes. Pure.
import type { Graph, Tensor, TensorId } from '../graph.js';
import type { Bucket, Layout, ParameterPlace } from '../layout.js';

/** Writes to a bucket that belong together. */
export interface GradientSegment {
  readonly bucket: Bucket;
  /** Scratch that holds the bucket meanwhile. */
  readonly region: string;
  readonly writes: readonly { readonly place: ParameterPlace; readonly id: TensorId }[];
  /** Ops that write first and last. */
  readonly first: number;
  readonly last: number;
  /** Whether the next segment goes on with what this one has written. */
  readonly isContinued: boolean;
}

/**
 * Segments in the order in which their last gradient is written. Buckets without a gradient have none, of at most `elementsMax` elements
 * one.
 */
export function gradientSegments(graph: Graph, layout: Layout, elementsMax: number): readonly GradientSegment[] {
  const writtenBy = new Map(graph.ops.flatMap((op, index) => op.outputs.map((id) => [id, index] as const)));
  const whole = layout.buckets.flatMap((bucket) => {
    const chains = bucket.parameters.map((place) => ({ place, ids: chainOf(graph, place.name) }));
    const writes = chains.flatMap(({ place, ids }) => ids.map((id, use) => ({ place, id, use: ids.length - use })));
    const ops = writes.map(({ id }) => writtenBy.get(id)!);
    return writes.length === 0 ? [] : [{ bucket, writes, last: Math.max(...ops) }];
  });
  const segments = whole.flatMap(({ bucket, writes, last }): GradientSegment[] => {
    const uses = [...new Set(writes.map(({ use }) => use))].sort((a, b) => b - a); // the last use is 1
    const groups = uses.map((use) => writes.filter((write) => write.use === use));
    const endOf = (group: typeof writes) => Math.max(...group.map(({ id }) => writtenBy.get(id)!));
    const isInterrupted = whole.some((other) => other.last > endOf(groups[0]!) && other.last < last);
    const parts = bucket.elements > elementsMax && isInterrupted ? groups : [writes];
    return parts.map((part, index) => ({
      bucket,
      region: index === 0 ? `gradients.${bucket.name}` : `gradients.${bucket.name}:${index}`,
      writes: part,
      first: Math.min(...part.map(({ id }) => writtenBy.get(id)!)),
      last: endOf(part),
      isContinued: index < parts.length - 1,
    }));
  });
  return segments.sort((a, b) => a.last - b.last);
}

/** The writes of a parameter's gradient, each of which adds to the one before; none for a frozen one. */
function chainOf(graph: Graph, parameter: string): readonly TensorId[] {
  const ids: TensorId[] = [];
  for (let id = graph.gradients.get(parameter) ?? null; id !== null; id = graph.tensors[id]!.continues) ids.unshift(id);
  return ids;
}

/** The graph in which later segments do not go on with the bytes of earlier ones; where one `startsAnew`, from nothing on. */
export function separated(graph: Graph, segments: readonly GradientSegment[], startsAnew: boolean): Graph {
  const isLater = new Set<TensorId>();
  const continued = new Set<Bucket>();
  for (const { bucket, writes, isContinued } of segments) {
    if (continued.has(bucket)) for (const { id } of writes) isLater.add(id);
    if (isContinued) continued.add(bucket);
  }
  if (isLater.size === 0) return graph;
  const tensors = graph.tensors.map(
    (tensor): Tensor => (isLater.has(tensor.id) ? { ...tensor, continues: null } : tensor),
  );
  const ops = graph.ops.map((op) => {
    const isAdded = op.attributes.accumulate === 1 && op.outputs.some((id) => isLater.has(id));
    return startsAnew && isAdded ? { ...op, attributes: { ...op.attributes, accumulate: 0 } } : op;
  });
  return { ...graph, tensors, ops };
}
