// Pass: gradients of one rank alone that live outside of the device (ZeRO-Offload, arXiv:2101.06840 §4). On the device a bucket's lie in
// scratch memory from its first write to its last: what the micro-batches before have added up comes while the bucket before is
// written, and the sum goes back behind the last write. So every gradient is added up where it always is, in the same order. The copies
// touch what has moved: the pass behind this one (offload.ts) makes them what they must be.
import { GraphBuilder } from '../builder.js';
import type { Tensor } from '../graph.js';
import type { Layout } from '../layout.js';
import { homeOf, type MovedBuffer } from '../offload.js';
import type { Place, PlacedGraph } from '../plan/placement.js';
import { gradientSegments, separated } from './gradient-segments.js';
import type { ZeroTuning } from './zero-tuning.js';

const BYTES = 4;

/** `placed` has its gradients in the buffer `gradients`, of which `moved` has left the device. */
export function streamGradients(
  placed: PlacedGraph,
  layout: Layout,
  moved: MovedBuffer,
  { overlapComm, reduceBucketSize }: Pick<ZeroTuning, 'overlapComm' | 'reduceBucketSize'>,
): PlacedGraph {
  const segments = gradientSegments(placed.graph, layout, reduceBucketSize).filter(
    ({ bucket }) => homeOf(moved, bucket.offset * BYTES) !== 'device',
  );
  const graph = separated(placed.graph, segments, false);
  const builder = new GraphBuilder(graph);
  const places = new Map(placed.places);
  const scratch = new Map(placed.scratch);
  const put = (tensor: Tensor, place: Place): Tensor => {
    places.set(tensor.id, place);
    return tensor;
  };
  const copy = (name: string, elements: number, from: Place, to: Place): void => {
    const source = put(builder.input(`${from.buffer}/${name}`, 'f32', [elements], 'gradient'), from);
    put(builder.op('copy', name, [source], {}, 'gradient')[0]!, to);
  };

  const byFirst = segments.toSorted((a, b) => a.first - b.first);
  const positions = byFirst.map(({ bucket: { elements, name, offset }, region, writes, first, last }, index) => {
    scratch.set(region, elements * BYTES);
    for (const { place, id } of writes) places.set(id, { buffer: region, offsetBytes: place.offset * BYTES });
    const here = { buffer: region, offsetBytes: 0 };
    const there = { buffer: 'gradients', offsetBytes: offset * BYTES };
    copy(name, elements, there, here);
    copy(name, elements, here, there);
    return { begin: overlapComm && index > 0 ? byFirst[index - 1]!.first : first, end: last };
  });
  const built = builder.build(graph.gradients);
  const copies = built.ops.slice(graph.ops.length); // two of each segment
  const ops = graph.ops.flatMap((op, at) => [
    ...positions.flatMap(({ begin }, index) => (begin === at ? [copies[2 * index]!] : [])),
    op,
    ...positions.flatMap(({ end }, index) => (end === at ? [copies[2 * index + 1]!] : [])),
  ]);
  return { ...placed, graph: { ...built, ops }, places, scratch };
}
