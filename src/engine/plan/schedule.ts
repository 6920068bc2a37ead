// Gives every op its stream and the ops of other streams that must have ended before it starts. Dependencies are found by
// bytes, not by names: an op waits for the last op of each other stream that wrote what it touches, or touched what it writes,
// unless it is known to have ended by what was waited for before. An op beside the kernels that is the first to touch a scratch
// buffer also waits for the kernel before it in the order: there the buffer begins to live, on bytes of what has ended by then. Kernels
// whose operands all lie in memory of the host have a stream of their own there; a device that is the host makes them among the others. The
// device's kernels are ahead of the host by one run of its ops, so that what it has yet to read of theirs is not all there at once.
import { byteLength, type Graph, type Op, type TensorId } from '../graph.js';
import { type OpRule, ruleOf } from '../ops/index.js';
import type { Place } from './placement.js';

export const COMPUTE = 0;
export const COMMUNICATION = 1;
export const COPY = 2;
export const DISK = 3;
export const HOST = 4;
export const STREAMS = ['compute', 'communication', 'copy', 'disk', 'host'] as const;

/** Streams and waits: of each op its stream, and the ops of other streams that must have ended before. */
export interface Schedule {
  readonly streams: readonly number[];
  readonly waits: readonly (readonly number[])[];
  /** Whether op `earlier` has surely ended when op `later` starts. */
  isBefore(earlier: number, later: number): boolean;
}

/** Per stream: the last op that has surely ended (-1: none). Streams run in order. */
type Clock = number[];

interface Access {
  readonly op: number;
  readonly stream: number;
  readonly start: number;
  readonly end: number;
  readonly isWrite: boolean;
}

/**
 * `scratch` has the buffers of `places` that live from the first to the last op that touches them, `host` those that lie in memory of the
 * host.
 */
export function schedule(
  graph: Graph,
  places: ReadonlyMap<TensorId, Place>,
  scratch: ReadonlyMap<string, number> = new Map(),
  host: ReadonlySet<string> = new Set(),
): Schedule {
  const isOnHost = (id: TensorId) => host.has((places.get(id) ?? places.get(rootOf(graph, id)))?.buffer ?? '');
  const streams = graph.ops.map((op) => {
    const stream = streamOf(ruleOf(op.kind));
    return stream === COMPUTE && host.size > 0 && op.outputs.every(isOnHost) ? HOST : stream;
  });
  const used = new Set(streams);
  const waits: number[][] = [];
  const clocks: Clock[] = [];
  const last: number[] = STREAMS.map(() => -1);
  const history = new Map<string, Access[]>();
  let hostBehind = -1; // the last op of the host's run before this one
  for (const [index, stream] of streams.entries()) {
    const clock: Clock = STREAMS.map(() => -1);
    const previous = last[stream]!;
    if (previous >= 0) {
      join(clock, clocks[previous]!);
      clock[stream] = previous;
    }
    const isBeginning = stream !== COMPUTE && begins(graph.ops[index]!, places, scratch, history);
    const needed = used.size > 1 ? conflicts(graph, places, history, index, stream) : [];
    if (isBeginning && last[COMPUTE]! >= 0) needed.push(last[COMPUTE]!);
    if (stream === HOST && last[COMPUTE]! > last[HOST]!) hostBehind = last[HOST]!;
    if (stream === COMPUTE && hostBehind >= 0) needed.push(hostBehind);
    const waitedFor: number[] = [];
    // The latest first: it may have waited for the others.
    for (const op of needed.toSorted((a, b) => b - a)) {
      const other = streams[op]!;
      if (other === stream || clock[other]! >= op) continue;
      join(clock, clocks[op]!);
      clock[other] = op;
      waitedFor.push(op);
    }
    waits.push(waitedFor);
    clocks.push(clock);
    last[stream] = index;
  }
  return { streams, waits, isBefore: (earlier, later) => clocks[later]![streams[earlier]!]! >= earlier };
}

function streamOf({ isCollective, moves }: OpRule): number {
  if (isCollective) return COMMUNICATION;
  return moves === undefined ? COMPUTE : moves === 'disk' ? DISK : COPY;
}

function join(clock: Clock, other: Clock): void {
  for (const [stream, op] of other.entries()) clock[stream] = Math.max(clock[stream]!, op);
}

/** Whether nobody touched a scratch buffer before that `op` writes. */
function begins(
  op: Op,
  places: ReadonlyMap<TensorId, Place>,
  scratch: ReadonlyMap<string, number>,
  history: ReadonlyMap<string, readonly Access[]>,
): boolean {
  return op.outputs.some((id) => {
    const buffer = places.get(id)?.buffer;
    return buffer !== undefined && scratch.has(buffer) && !history.has(`@${buffer}`);
  });
}

/** The last op of each stream that op `index` must follow; adds what it touches to `history`. */
function conflicts(
  graph: Graph,
  places: ReadonlyMap<TensorId, Place>,
  history: Map<string, Access[]>,
  index: number,
  stream: number,
): number[] {
  const op = graph.ops[index]!;
  const needed: number[] = STREAMS.map(() => -1);
  const accesses = [
    ...op.inputs.map((id) => accessOf(graph, places, id, false)),
    ...op.outputs.map((id) => accessOf(graph, places, id, true)),
  ];
  for (const { key, start, end, isWrite } of accesses) {
    for (const earlier of history.get(key) ?? []) {
      const isOverlap = earlier.start < end && start < earlier.end;
      if (isOverlap && (isWrite || earlier.isWrite))
        needed[earlier.stream] = Math.max(needed[earlier.stream]!, earlier.op);
    }
  }
  for (const { key, start, end, isWrite } of accesses) {
    const list = history.get(key) ?? [];
    list.push({ op: index, stream, start, end, isWrite });
    history.set(key, list);
  }
  return needed.filter((op) => op >= 0);
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
