// Gives every op its stream and the ops of the other stream that must have ended before it starts. Dependencies are found by
// bytes, not by names: an op waits for the last op of the other stream that wrote what it touches, or touched what it writes.
import { byteLength, type Graph, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';
import type { Place } from './placement.js';

export const COMPUTE = 0;
export const COMMUNICATION = 1;

export interface Schedule {
  readonly streams: readonly number[];
  readonly waits: readonly (readonly number[])[];
  /** Whether op `earlier` has surely ended when op `later` starts. */
  isBefore(earlier: number, later: number): boolean;
}

interface Access {
  readonly op: number;
  readonly stream: number;
  readonly start: number;
  readonly end: number;
  readonly isWrite: boolean;
}

export function schedule(graph: Graph, places: ReadonlyMap<TensorId, Place>): Schedule {
  const streams = graph.ops.map((op) => (ruleOf(op.kind).isCollective ? COMMUNICATION : COMPUTE));
  const waits: number[][] = graph.ops.map(() => []);
  if (streams.includes(COMMUNICATION) && streams.includes(COMPUTE)) findWaits(graph, places, streams, waits);

  // clocks[i][s]: the last op of stream s that has surely ended when op i starts (-1: none). Streams run in order.
  const clocks: [number, number][] = [];
  const last: [number, number] = [-1, -1];
  for (const [index, stream] of streams.entries()) {
    const clock: [number, number] = [-1, -1];
    for (const known of [last[stream as 0 | 1], ...waits[index]!]) {
      if (known < 0) continue;
      const s = streams[known] as 0 | 1;
      const other = clocks[known]!;
      clock[0] = Math.max(clock[0], other[0]);
      clock[1] = Math.max(clock[1], other[1]);
      clock[s] = Math.max(clock[s], known);
    }
    clocks.push(clock);
    last[stream as 0 | 1] = index;
  }
  return {
    streams,
    waits,
    isBefore: (earlier, later) => clocks[later]![streams[earlier] as 0 | 1] >= earlier,
  };
}

function findWaits(
  graph: Graph,
  places: ReadonlyMap<TensorId, Place>,
  streams: readonly number[],
  waits: number[][],
): void {
  const history = new Map<string, Access[]>();
  const waitedFor: [number, number] = [-1, -1]; // per stream: the last op of the other one that it has waited for
  for (const [index, op] of graph.ops.entries()) {
    const stream = streams[index]!;
    let needed = -1;
    const accesses = [
      ...op.inputs.map((id) => accessOf(graph, places, id, false)),
      ...op.outputs.map((id) => accessOf(graph, places, id, true)),
    ];
    for (const { key, start, end, isWrite } of accesses) {
      for (const earlier of history.get(key) ?? []) {
        const isOverlap = earlier.start < end && start < earlier.end;
        if (earlier.stream !== stream && isOverlap && (isWrite || earlier.isWrite))
          needed = Math.max(needed, earlier.op);
      }
    }
    for (const { key, start, end, isWrite } of accesses) {
      const list = history.get(key) ?? [];
      list.push({ op: index, stream, start, end, isWrite });
      history.set(key, list);
    }
    if (needed > waitedFor[stream as 0 | 1]) {
      waits[index]!.push(needed);
      waitedFor[stream as 0 | 1] = needed;
    }
  }
}

function accessOf(graph: Graph, places: ReadonlyMap<TensorId, Place>, id: TensorId, isWrite: boolean) {
  const root = rootOf(graph, id);
  const place = places.get(id) ?? places.get(root);
  const start = place?.offsetBytes ?? 0;
  return { key: place ? `@${place.buffer}` : `${root}`, start, end: start + byteLength(graph.tensors[id]!), isWrite };
}

/** The first of the tensors on whose bytes `id` is written. */
export function rootOf(graph: Graph, id: TensorId): TensorId {
  let root = id;
  for (let next = graph.tensors[root]!.continues; next !== null; next = graph.tensors[root]!.continues) root = next;
  return root;
}
