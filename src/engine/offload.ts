// What leaves the device: the optimiser's state, masters, slices of gradients and of parameters live in host memory or in a file. Which
// bytes of which buffers those are, and in what pieces they come by. Pure arithmetic.
import { DTYPE_BYTES } from './graph.js';
import { type Bucket, type Layout, parameterBuckets, type SliceHome } from './layout.js';
import { type OptimizerSettings, stateBuffers } from './optimizer.js';

/** Where the optimiser's state, masters and (from ZeRO stage 2 on) gradients of a rank live, and where its steps are taken. */
export interface OptimizerOffload {
  /** `cpu`: in the memory of the host. `nvme`: in files. */
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

/** Where a rank's slices of parameters live at ZeRO stage 3. */
export interface ParameterOffload extends SliceHome {
  /** Null where all are in the memory of the host. */
  readonly file: FileSettings | null;
}

/** All slices in the memory of the host. */
export const PARAMETERS_ON_HOST: ParameterOffload = {
  hostElementsMax: Number.POSITIVE_INFINITY,
  buffers: 0,
  bufferElements: 0,
  file: null,
};

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

/** What leaves the device. */
export interface Offload {
  readonly optimizer?: OptimizerOffload | null;
}

/** The files of a job, by the number that programs know them by: records of state and masters, slices of parameters and of gradients. */
export const FILES = { state: 0, parameters: 1, gradients: 2 } as const;
export type FileName = keyof typeof FILES;

/** Whole pages go to and from a file. */
export const PAGE = 4096;
export const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;
const pagesWithin = (bytes: number): number => Math.max(PAGE, Math.floor(bytes / PAGE) * PAGE);

/** Bytes of a buffer that lie in a file. */
export interface Extent {
  readonly buffer: string;
  readonly offsetBytes: number;
  readonly bytes: number;
  readonly fileOffset: number;
}

/** What a file holds. */
export interface FileContents {
  readonly extents: readonly Extent[];
  readonly bytes: number;
}

/** Some bytes of a buffer are elsewhere, from `fromBytes` to its end or to `endBytes`: in the memory of the host, */
export interface MovedBuffer {
  readonly fromBytes: number;
  /** from here on in a file. */
  readonly diskFromBytes: number;
  readonly endBytes: number;
  /** Null: in records of pieces, which the pass lays out. */
  readonly file: OwnFile | null;
}

/** A file of one buffer, every run of which begins a page. What goes to the device or comes from there does so through some buffers. */
export interface OwnFile {
  readonly name: FileName;
  readonly contents: FileContents;
  readonly buffers: number;
  /** Whole pages. */
  readonly bufferBytes: number;
}

/** How pieces are staged. */
export interface Tiling {
  readonly tileElements: number;
  readonly slots: number;
}

const TILE_ELEMENTS = 2 ** 20;
/** Random numbers come in blocks of so many. */
const TILE_UNIT = 32;
/** A page of 16-bit numbers, two of 32-bit ones: large pieces share no page. */
export const PIECE_UNIT = 2048;
const SLOTS = 2;

/** The name of the part of a buffer that lives in host memory. */
export const hostPart = (buffer: string): string => `${buffer}@host`;

/** Where a byte of a buffer is. */
export function homeOf(moved: MovedBuffer | undefined, offsetBytes: number): 'device' | 'host' | 'disk' {
  if (!moved || offsetBytes < moved.fromBytes || offsetBytes >= moved.endBytes) return 'device';
  return offsetBytes < moved.diskFromBytes ? 'host' : 'disk';
}

export function homeOfSlices({ hostElementsMax, buffers, bufferElements }: ParameterOffload): SliceHome {
  return { hostElementsMax, buffers, bufferElements };
}

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

/** The length of as few pieces of at most `most` as `length` has, all as long but for the last: multiples of `unit`, where `most` has room for it. */
export function evenPiece(length: number, most: number, unit: number): number {
  const even = Math.ceil(length / Math.ceil(length / most));
  return Math.min(most, Math.ceil(even / unit) * unit);
}

/** What of which buffers is moved. The buckets that an update comes to first are moved first. */
export function movedBuffers(
  layout: Layout,
  optimizer: OptimizerSettings,
  offload: OptimizerOffload | null,
  hasBucketedGradients: boolean,
): ReadonlyMap<string, MovedBuffer> {
  const moved = new Map(movedParameters(layout));
  if (!offload) return moved;
  const buckets = movedBuckets(layout, offload.ratio ?? 1);
  const to = offload.device === 'cpu' ? 'host' : 'disk';
  const move = (buffer: string, offsetBytes: number, where: 'host' | 'disk'): void => {
    const fromBytes = Math.min(offsetBytes, moved.get(buffer)?.fromBytes ?? offsetBytes);
    const endBytes = Number.POSITIVE_INFINITY;
    moved.set(buffer, { fromBytes, diskFromBytes: where === 'disk' ? fromBytes : endBytes, endBytes, file: null });
  };
  for (const bucket of buckets) {
    const { sliceOffset, stateOffset } = bucket;
    if (layout.hasMasters) move('master', sliceOffset * DTYPE_BYTES.f32, to);
    if (hasBucketedGradients) move('gradients', sliceOffset * DTYPE_BYTES.f32, to);
    for (const name of stateBuffers(optimizer, bucket)) move(name, stateOffset * DTYPE_BYTES[layout.stateDtype], to);
  }
  const gradients = moved.get('gradients');
  if (gradients && to === 'disk') {
    const { slots, tileElements } = tilingOf(layout, optimizer, offload);
    const runs = buckets.map(({ sliceOffset: offset, sliceElements: elements }) => ({ offset, elements }));
    const contents = fileOf('gradients', runs, DTYPE_BYTES.f32);
    const bufferBytes = pagesWithin(tileElements * DTYPE_BYTES.f32);
    moved.set('gradients', { ...gradients, file: { name: 'gradients', contents, buffers: slots, bufferBytes } });
  }
  return moved;
}

/** Slices of parameters that are not on the device. */
export function movedParameters(layout: Layout): ReadonlyMap<string, MovedBuffer> {
  const { offDevice, dtype } = layout;
  if (!offDevice) return new Map();
  const size = DTYPE_BYTES[dtype];
  const { from, diskFrom, end, buffers, bufferElements } = offDevice;
  const bytes = { fromBytes: from * size, diskFromBytes: diskFrom * size, endBytes: end * size };
  const runs = parameterBuckets(layout)
    .filter(({ isSliced, parameterOffset }) => isSliced && parameterOffset >= diskFrom)
    .map(({ parameterOffset: offset, sliceElements: elements }) => ({ offset, elements }));
  const contents = fileOf('parameters', runs, size);
  const file = { name: 'parameters', contents, buffers, bufferBytes: pagesWithin(bufferElements * size) } as const;
  return new Map([['parameters', { ...bytes, file: runs.length > 0 ? file : null }]]);
}

/** Runs of a buffer, in elements, one after the other, each from the start of a page on. */
function fileOf(
  buffer: string,
  runs: readonly { readonly offset: number; readonly elements: number }[],
  size: number,
): FileContents {
  let end = 0;
  const extents = runs.map(({ offset, elements }): Extent => {
    const fileOffset = end;
    end += pagesOf(elements * size);
    return { buffer, offsetBytes: offset * size, bytes: elements * size, fileOffset };
  });
  return { extents, bytes: end };
}

/** Bytes of all files but that of records. */
export function ownFileBytes(moved: ReadonlyMap<string, MovedBuffer>): number {
  return [...moved.values()].reduce((sum, { file }) => sum + (file?.contents.bytes ?? 0), 0);
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
