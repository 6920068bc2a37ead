// From a placed graph to a plan: streams and waits, memory, bytes, hash.
import { createHash } from 'node:crypto';
import type { Graph, TensorId } from '../graph.js';
import { type BufferSize, encodePlan } from './encode.js';
import { ARENA, type MemoryPlan, planMemory } from './memory.js';
import type { Place, PlacedGraph } from './placement.js';
import { type Schedule, schedule } from './schedule.js';

/** A program without a device: ops in order, streams and waits, and the place of every tensor; as objects, and as bytes that the executor reads. */
export interface Plan {
  readonly graph: Graph;
  readonly places: ReadonlyMap<TensorId, Place>;
  readonly schedule: Schedule;
  /** What the program runs over, in the order of the plan's buffer table. */
  readonly buffers: readonly BufferSize[];
  readonly arena: Omit<MemoryPlan, 'places'>;
  readonly bytes: Uint8Array;
  /** sha256 of the bytes, in hex. */
  readonly hash: string;
}

/** Orders the ops of a graph, puts them on streams, and gives every tensor that has no place yet one in the arena. */
export function plan({ graph, places: given, buffers: sizes, scratch, host }: PlacedGraph): Plan {
  const fixed = withChains(graph, given);
  const order = schedule(graph, fixed, scratch, host);
  const { places: touched, ...arena } = planMemory(graph, fixed, order, scratch);
  const used = new Set([...touched.values()].map((place) => place.buffer));
  const places = new Map(touched);
  // Inputs whose bytes are read under another name.
  for (const id of graph.inputs.values()) {
    const place = fixed.get(id);
    if (place && used.has(place.buffer)) places.set(id, place);
  }
  const buffers = [...sizes]
    .filter(([name]) => used.has(name))
    .map(([name, bytes]) => ({ name, bytes, isOnHost: host?.has(name) ?? false }));
  if (arena.peakBytes > 0) buffers.push({ name: ARENA, bytes: arena.peakBytes, isOnHost: false });
  const bytes = encodePlan(graph, places, order, buffers);
  const hash = createHash('sha256').update(bytes).digest('hex');
  return { graph, places, schedule: order, buffers, arena, bytes, hash };
}

/** What lasts has its place from the first write on its bytes. */
function withChains(graph: Graph, given: ReadonlyMap<TensorId, Place>): ReadonlyMap<TensorId, Place> {
  const places = new Map(given);
  for (const [id, place] of given) {
    for (let next = graph.tensors[id]!.continues; next !== null; next = graph.tensors[next]!.continues)
      if (!places.has(next)) places.set(next, place);
  }
  return places;
}
