// What leaves the device: the optimiser's state, masters and slices of gradients live in host memory or in a file. Which bytes of
// which buffers those are, and in what pieces they come by. Pure arithmetic.
import { DTYPE_BYTES } from './graph.js';
import type { Bucket, Layout } from './layout.js';
import { type OptimizerSettings, stateBuffers } from './optimizer.js';

/** Where the optimiser's state, masters and (from ZeRO stage 2 on) gradients of a rank live, and where its steps are taken. */
export interface OptimizerOffload {
  /** `cpu`: in the memory of the host. `nvme`: state and masters in a file, gradients in the memory of the host. */
  readonly device: 'cpu' | 'nvme';
  /** The share of the elements that is offloaded, rounded to whole buckets; the rest is stepped on the device. Default 1. */
  readonly ratio?: number;
  /** Most elements that are staged as one piece. Default 2^20. */
  readonly tileElements?: number;
  /** How many pieces are under way at once: one is stepped while others come and go. Default 2. */
  readonly slots?: number;
  /** With `nvme`: what is staged of the file has together at most so many elements. Default: no limit of its own. */
  readonly poolElements?: number;
  /** With `nvme`: where and how. */
  readonly file?: FileSettings;
}

/** Where a rank's file lies, and how it is read and written. */
export interface FileSettings {
  readonly folder: string;
  /** Of one request, a multiple of 4096. */
  readonly blockBytes: number;
  /** Requests under way at once, of each of `threads` threads. */
  readonly queueDepth: number;
  readonly threads: number;
  readonly singleSubmit: boolean;
  readonly overlapEvents: boolean;
}

export interface Offload {
  readonly optimizer?: OptimizerOffload | null;
}

/** The bytes of a buffer from `fromBytes` on, to its end or to `endBytes`, are elsewhere. */
export interface MovedBuffer {
  readonly fromBytes: number;
  readonly endBytes?: number;
  readonly to: 'host' | 'disk';
}

/** How pieces are staged. */
export interface Tiling {
  readonly tileElements: number;
  readonly slots: number;
}

const TILE_ELEMENTS = 2 ** 20;
/** Random numbers come in blocks of so many. */
const TILE_UNIT = 32;
const SLOTS = 2;

/** The name of the part of a buffer that lives in host memory. */
export const hostPart = (buffer: string): string => `${buffer}@host`;

export function tilingOf(
  layout: Layout,
  optimizer: OptimizerSettings | null,
  offload: OptimizerOffload | null,
): Tiling {
  const { tileElements: most = TILE_ELEMENTS, slots = SLOTS, poolElements = Number.POSITIVE_INFINITY } = offload ?? {};
  const states = Math.max(
    1,
    ...layout.buckets.map((bucket) => (optimizer ? stateBuffers(optimizer, bucket).length : 0)),
  );
  const tileElements = Math.min(most, poolElements / (slots * (states + (layout.hasMasters ? 1 : 0))));
  return { tileElements: Math.max(TILE_UNIT, Math.floor(tileElements / TILE_UNIT) * TILE_UNIT), slots };
}

/** What of which buffers is moved. The buckets that an update comes to first are moved first. */
export function movedBuffers(
  layout: Layout,
  optimizer: OptimizerSettings,
  offload: OptimizerOffload | null,
  hasSlicedGradients: boolean,
): ReadonlyMap<string, MovedBuffer> {
  const moved = new Map(movedParameters(layout));
  if (!offload) return moved;
  const buckets = movedBuckets(layout, offload.ratio ?? 1);
  const to = offload.device === 'cpu' ? 'host' : 'disk';
  const move = (buffer: string, fromBytes: number, where: 'host' | 'disk'): void => {
    moved.set(buffer, { fromBytes: Math.min(fromBytes, moved.get(buffer)?.fromBytes ?? fromBytes), to: where });
  };
  for (const bucket of buckets) {
    const { sliceOffset, stateOffset } = bucket;
    if (layout.hasMasters) move('master', sliceOffset * DTYPE_BYTES.f32, to);
    if (hasSlicedGradients) move('gradients', sliceOffset * DTYPE_BYTES.f32, 'host');
    for (const name of stateBuffers(optimizer, bucket)) move(name, stateOffset * DTYPE_BYTES[layout.stateDtype], to);
  }
  return moved;
}

/** Slices of parameters that live in the memory of the host. */
export function movedParameters({ onHost, dtype }: Layout): ReadonlyMap<string, MovedBuffer> {
  if (!onHost) return new Map();
  const size = DTYPE_BYTES[dtype];
  return new Map([['parameters', { fromBytes: onHost.from * size, endBytes: onHost.end * size, to: 'host' }]]);
}

/** The last buckets, as many as come closest to `ratio` of all elements, one at least. */
function movedBuckets({ buckets, sliceElements }: Layout, ratio: number): readonly Bucket[] {
  const wanted = ratio * sliceElements;
  let taken = 0;
  let first = buckets.length;
  while (first > 0) {
    const more = buckets[first - 1]!.sliceElements;
    if (taken > 0 && Math.abs(taken + more - wanted) > Math.abs(taken - wanted)) break;
    taken += more;
    first--;
  }
  return buckets.slice(first);
}
