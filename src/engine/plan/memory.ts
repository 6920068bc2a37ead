// Lays all tensors of a program that do not outlive it into one arena. Tensors share bytes when an op works in place or when
// every op that touches the one has surely ended before the other is first written, over both streams.
import { byteLength, type Graph, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';
import type { Place } from './placement.js';
import { rootOf, type Schedule } from './schedule.js';

export const ARENA = 'arena';
const ALIGNMENT = 64;

export interface MemoryPlan {
  /** A place for every tensor that an op mentions. */
  readonly places: ReadonlyMap<TensorId, Place>;
  readonly peakBytes: number;
  /** The largest sum of what is alive during one op: no layout can need less. */
  readonly lowerBoundBytes: number;
  readonly lives: readonly Life[];
}

/** Bytes of the arena while they hold something: from the first op that writes them to the last that touches them. */
export interface Life {
  readonly path: string;
  readonly bytes: number;
  readonly offsetBytes: number;
  readonly first: number;
  readonly last: number;
}

/** The first of the tensors on it, or the name of a scratch buffer. */
type BlockId = TensorId | string;

/** Bytes in the arena that one or more tensors hold in turn. */
interface Block {
  readonly id: BlockId;
  readonly bytes: number;
  readonly accesses: number[]; // ops in order
}

/** `scratch` has the bytes of the buffers in `fixed` that are parts of the arena. */
export function planMemory(
  graph: Graph,
  fixed: ReadonlyMap<TensorId, Place>,
  order: Schedule,
  scratch: ReadonlyMap<string, number> = new Map(),
): MemoryPlan {
  const owner = new Map<TensorId, BlockId>(); // tensor → the name of its block
  const blocks = new Map<BlockId, Block>();
  const given = (id: TensorId) => fixed.get(id) ?? fixed.get(rootOf(graph, id));
  const isFixed = (id: TensorId) => given(id) !== undefined;
  const blockOf = (id: TensorId) => blocks.get(owner.get(id) ?? owner.get(rootOf(graph, id)) ?? -1);

  const accesses = new Map<TensorId, number[]>(); // by root
  for (const [index, op] of graph.ops.entries()) {
    for (const id of [...op.inputs, ...op.outputs]) {
      const place = given(id);
      const bytes = place && scratch.get(place.buffer);
      if (place && bytes !== undefined) {
        const block = blocks.get(place.buffer) ?? { id: place.buffer, bytes, accesses: [] };
        if (block.accesses.at(-1) !== index) block.accesses.push(index);
        blocks.set(place.buffer, block);
      }
      if (place) continue;
      const root = rootOf(graph, id);
      const list = accesses.get(root) ?? [];
      if (list.at(-1) !== index) list.push(index);
      accesses.set(root, list);
    }
  }

  for (const [index, op] of graph.ops.entries()) {
    const rule = ruleOf(op.kind);
    for (const id of op.inputs) {
      if (!isFixed(id) && !blockOf(id))
        throw new Error(`${op.path} (${op.kind}) reads ${graph.tensors[id]!.path} before it is written`);
    }
    const claimed = new Set<Block>();
    for (const [position, id] of op.outputs.entries()) {
      if (isFixed(id) || blockOf(id)) continue;
      const bytes = byteLength(graph.tensors[id]!);
      const donor = rule.inPlace
        ?.filter(([output]) => output === position)
        .map(([, input]) => op.inputs[input])
        .filter((input) => input !== undefined && !isFixed(input))
        .map((input) => blockOf(input!)!)
        .find(
          (block) =>
            block.bytes === bytes &&
            !claimed.has(block) &&
            block.accesses.every((access) => access === index || order.isBefore(access, index)),
        );
      const uses = accesses.get(id)!;
      if (donor) {
        claimed.add(donor);
        donor.accesses.push(...uses.filter((access) => access !== index));
        owner.set(id, donor.id);
      } else {
        blocks.set(id, { id, bytes, accesses: [...uses] });
        owner.set(id, id);
      }
    }
  }

  const lowerBoundBytes = largestLiveSum([...blocks.values()], graph.ops.length);
  const { offsets, peakBytes } = layOut([...blocks.values()], order, lowerBoundBytes);
  const places = new Map<TensorId, Place>();
  for (const op of graph.ops) {
    for (const id of [...op.inputs, ...op.outputs]) {
      if (places.has(id)) continue;
      const place = given(id);
      if (place && !scratch.has(place.buffer)) places.set(id, place);
      else {
        const start = offsets.get(place ? place.buffer : blockOf(id)!.id)!;
        places.set(id, { buffer: ARENA, offsetBytes: start + (place?.offsetBytes ?? 0) });
      }
    }
  }
  const lives = [...blocks.values()].map(({ id, bytes, accesses }): Life => {
    const path = typeof id === 'string' ? id : graph.tensors[id]!.path;
    return { path, bytes, offsetBytes: offsets.get(id)!, first: accesses[0]!, last: Math.max(...accesses) };
  });
  return { places, peakBytes, lowerBoundBytes, lives };
}

/** Largest blocks first is best for most programs; others come closer to what lives at once where small blocks live long. */
const ORDERS: readonly ((a: Block, b: Block) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.accesses[0]! - b.accesses[0]!,
  (a, b) => span(b) * b.bytes - span(a) * a.bytes || a.accesses[0]! - b.accesses[0]!,
  (a, b) => span(b) - span(a) || b.bytes - a.bytes,
  (a, b) => a.accesses[0]! - b.accesses[0]! || b.bytes - a.bytes,
  (a, b) => b.accesses.at(-1)! - a.accesses.at(-1)! || b.bytes - a.bytes,
];

/** Rounds in which the block that sets the peak is placed earlier. */
const ROUNDS = 24;

interface Arrangement {
  readonly blocks: readonly Block[];
  readonly offsets: ReadonlyMap<BlockId, number>;
  readonly peakBytes: number;
}

/** The smallest of the layouts of several orders, improved while it needs more than what lives at once. */
function layOut(blocks: readonly Block[], order: Schedule, lowerBoundBytes: number): Arrangement {
  let best: Arrangement | null = null;
  for (const compare of ORDERS) {
    const found = arrange(blocks.toSorted(compare), order);
    if (!best || found.peakBytes < best.peakBytes) best = found;
    if (best.peakBytes <= lowerBoundBytes) return best;
  }
  let current = best!;
  for (let round = 0; round < ROUNDS; round++) {
    const top = current.blocks.find((block) => endOf(current, block) === current.peakBytes)!;
    current = arrange([top, ...current.blocks.filter((block) => block !== top)], order);
    if (current.peakBytes < best!.peakBytes) best = current;
    if (best!.peakBytes <= lowerBoundBytes) break;
  }
  return best!;
}

function arrange(blocks: readonly Block[], order: Schedule): Arrangement {
  const offsets = fit(blocks, order);
  const peakBytes = blocks.reduce((most, { id, bytes }) => Math.max(most, offsets.get(id)! + aligned(bytes)), 0);
  return { blocks, offsets, peakBytes };
}

function endOf({ offsets }: Arrangement, block: Block): number {
  return offsets.get(block.id)! + aligned(block.bytes);
}

function span({ accesses }: Block): number {
  return accesses.at(-1)! - accesses[0]!;
}

/** Best fit: each block in turn goes into the smallest gap between the blocks that live at the same time. */
function fit(blocks: readonly Block[], order: Schedule): ReadonlyMap<BlockId, number> {
  const offsets = new Map<BlockId, number>();
  const placed: { readonly block: Block; readonly start: number; readonly end: number }[] = []; // by start
  for (const block of blocks) {
    const size = aligned(block.bytes);
    let best = -1;
    let bestGap = Number.POSITIVE_INFINITY;
    let end = 0;
    for (const other of placed) {
      if (isBefore(other.block, block, order) || isBefore(block, other.block, order)) continue;
      const gap = other.start - end;
      if (gap >= size && gap < bestGap) {
        best = end;
        bestGap = gap;
      }
      end = Math.max(end, other.end);
    }
    const start = best >= 0 ? best : end;
    offsets.set(block.id, start);
    const entry = { block, start, end: start + size };
    const position = placed.findIndex((other) => other.start > start);
    placed.splice(position < 0 ? placed.length : position, 0, entry);
  }
  return offsets;
}

/** Whether every op that touches `a` has ended when `b` is first written. */
function isBefore(a: Block, b: Block, order: Schedule): boolean {
  const first = b.accesses[0]!;
  // Later accesses of one stream end later, so the last of each stream would do; lists are short.
  if (a.accesses.at(-1)! >= first) return false;
  return a.accesses.every((access) => order.isBefore(access, first));
}

function largestLiveSum(blocks: readonly Block[], opCount: number): number {
  const change = new Float64Array(opCount + 1);
  for (const block of blocks) {
    change[block.accesses[0]!]! += aligned(block.bytes);
    change[block.accesses.at(-1)! + 1]! -= aligned(block.bytes);
  }
  let live = 0;
  let largest = 0;
  for (const delta of change) {
    live += delta;
    largest = Math.max(largest, live);
  }
  return largest;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
