// Pass: ZeRO stage 3 (arXiv:1910.02054 §5.3). Parameters live as this rank's slices; before a bucket is read, its slices are
// gathered into scratch memory on the communication stream, and behind its last use that memory is free for others. Where it is
// read again later (the backward), it is gathered again. When, plan-gathers.ts decides. Runs behind all passes that add uses:
// recomputation, partitioned gradients.
import { GraphBuilder } from '../builder.js';
import { DTYPE_BYTES, type Graph, type Tensor, type TensorId } from '../graph.js';
import { type Layout, type ParameterBucket, parameterBuckets } from '../layout.js';
import type { Group } from '../mesh.js';
import type { PlacedGraph } from '../plan/placement.js';
import { BucketGathers, SECONDARY } from './gather-bucket.js';
import { planGathers, type Residence, type Visit } from './plan-gathers.js';
import type { ZeroTuning } from './zero-tuning.js';

/** The scratch buffer in which a bucket is whole. */
export const wholeRegion = (bucket: ParameterBucket): string => `parameters.${bucket.name}`;

/**
 * `placed` reads sliced parameters from {@link wholeRegion}, which nobody fills; the result gathers them. Where a second gather can do
 * with the ranks of one machine, `inner` is their group.
 */
export function partitionParameters(
  placed: PlacedGraph,
  layout: Layout,
  tuning: ZeroTuning,
  inner: Group | null = null,
): PlacedGraph {
  const { graph } = placed;
  const buckets = parameterBuckets(layout).filter(({ isSliced }) => isSliced);
  const bucketOf = bucketsOfTensors(graph, buckets);
  const residences = planGathers(buckets, visitsOf(graph, bucketOf), tuning);
  const bytes = DTYPE_BYTES[layout.dtype];
  const builder = new GraphBuilder({ ...graph, ops: [] });
  const places = new Map(placed.places);
  const scratch = new Map(placed.scratch);
  const counts = new Map<number, number>(); // residences of each bucket so far
  const current = new Map<TensorId, Tensor>(); // parameter → where the residence that is now has it
  const again = buckets.filter((_, index) => residences.filter(({ bucket }) => bucket === index).length > 1);
  const gathers = new BucketGathers(builder, places, layout, again, { tuning, inner });

  const gather = ({ bucket: index }: Residence): (() => void) => {
    const bucket = buckets[index]!;
    const count = counts.get(index) ?? 0;
    counts.set(index, count + 1);
    const region = count === 0 ? wholeRegion(bucket) : `${wholeRegion(bucket)}:${count}`;
    scratch.set(region, bucket.elements * bytes);
    const end = gathers.begin(bucket, region, count === 0);
    return () => {
      end();
      for (const place of bucket.parameters) {
        const parameter = graph.tensors[graph.parameters.get(place.name)?.tensor ?? -1];
        if (!parameter || count === 0) continue;
        const copy = builder.input(`${region}/${place.name}`, parameter.dtype, parameter.dims, 'parameter');
        places.set(copy.id, { buffer: region, offsetBytes: place.offset * bytes });
        current.set(parameter.id, copy);
      }
    };
  };

  let next = 0; // the first residence that has not begun to gather
  const waiting: { readonly first: number; readonly begin: () => void }[] = [];
  for (const [index, op] of graph.ops.entries()) {
    for (; residences[next]?.gatherAt === index; next++) {
      const residence = residences[next]!;
      waiting.push({ first: residence.first, begin: gather(residence) });
    }
    while (waiting[0]?.first === index) waiting.shift()!.begin();
    builder.keep({ ...op, inputs: op.inputs.map((id) => current.get(id)?.id ?? id) });
  }
  const buffers = new Map(placed.buffers);
  if (gathers.secondaryBytes > 0) buffers.set(SECONDARY, gathers.secondaryBytes);
  return { graph: builder.build(graph.gradients), places, buffers, scratch };
}

function bucketsOfTensors(graph: Graph, buckets: readonly ParameterBucket[]): ReadonlyMap<TensorId, number> {
  const result = new Map<TensorId, number>();
  for (const [index, { parameters }] of buckets.entries())
    for (const { name } of parameters) {
      const parameter = graph.parameters.get(name);
      if (parameter) result.set(parameter.tensor, index);
    }
  return result;
}

function visitsOf(graph: Graph, bucketOf: ReadonlyMap<TensorId, number>): readonly Visit[] {
  return graph.ops.flatMap((op, index) => {
    const read = new Set(op.inputs.flatMap((id) => bucketOf.get(id) ?? []));
    return [...read].map((bucket) => ({ bucket, op: index }));
  });
}
