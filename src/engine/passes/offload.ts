// Pass: ZeRO-Offload (arXiv:2101.06840), ZeRO-Infinity (arXiv:2104.07857). Buffers, or their ends, have left the device. What touches
// them runs on the host, a piece at a time: its other operands are copied into a slot of a staging buffer, steps in place, and
// what it changed is copied back; what lies in a file is read into the slot and written again. Pieces take the slots in turn, so that one
// is stepped while the next comes and the last goes. Copies are the only ops that touch device and host both. Knows no optimiser.
import {
  byteLength,
  DTYPE_BYTES,
  type Dtype,
  elementCount,
  type Graph,
  type Op,
  type Tensor,
  type TensorId,
} from '../graph.js';
import type { Layout } from '../layout.js';
import { hostPart, type MovedBuffer, movedBuffers, type Offload, type Tiling, tilingOf } from '../offload.js';
import { ruleOf } from '../ops/index.js';
import type { OptimizerSettings } from '../optimizer.js';
import type { Place, PlacedGraph } from '../plan/placement.js';
import { DeferredOps } from './deferred-ops.js';

/** Scalars have a twin on the host, which is brought up to date when somebody there reads it, and the other way round. */
const SCALARS = 'update_scalars';
export const STAGING = 'staging';
const PAGE = 4096;
const LINE = 64;

/** Bytes of a buffer that lie in the file. */
export interface Extent {
  readonly buffer: string;
  readonly offsetBytes: number;
  readonly bytes: number;
  readonly fileOffset: number;
}

export interface OffloadedGraph extends PlacedGraph {
  readonly extents: readonly Extent[];
  readonly fileBytes: number;
}

/** What leaves the device for a job, and the pass that all its programs go through. */
export function offloader(
  layout: Layout,
  settings: OptimizerSettings,
  { optimizer = null }: Offload,
  isSliced: boolean,
) {
  const moved = movedBuffers(layout, settings, optimizer, isSliced);
  const tiling = tilingOf(layout, settings, optimizer);
  return { moved, moveOut: (placed: PlacedGraph) => offload(placed, moved, tiling) };
}

export function offload(placed: PlacedGraph, moved: ReadonlyMap<string, MovedBuffer>, tiling: Tiling): OffloadedGraph {
  if (moved.size === 0) return { ...placed, extents: [], fileBytes: 0 };
  return new Offloader(placed, moved, tiling).run();
}

/** An operand of one piece. */
interface Staged {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly path: string;
  readonly place: Place | null;
}

class Offloader {
  readonly #placed: PlacedGraph;
  readonly #moved: ReadonlyMap<string, MovedBuffer>;
  readonly #tiling: Tiling;
  readonly #tensors: Tensor[];
  readonly #places: Map<TensorId, Place>;
  readonly #ops: Op[] = [];
  readonly #deferred: DeferredOps;
  /** Which copy of a scalar is the newest; not in it: the device's. */
  readonly #scalars = new Map<number, 'host' | 'both'>();
  readonly #scratch: Map<string, number>;
  readonly #slotted: { readonly id: TensorId; readonly slot: number; readonly offset: number }[] = [];
  readonly #extents: Extent[] = [];
  #scalarBytes: number;
  #slotBytes = 0;
  #fileBytes = 0;
  #pieces = 0;

  constructor(placed: PlacedGraph, moved: ReadonlyMap<string, MovedBuffer>, tiling: Tiling) {
    this.#placed = placed;
    this.#moved = moved;
    this.#tiling = tiling;
    this.#scratch = new Map(placed.scratch);
    this.#scalarBytes = placed.buffers.get(SCALARS) ?? 0;
    this.#tensors = [...placed.graph.tensors];
    this.#places = new Map(placed.places);
    this.#deferred = new DeferredOps(this.#tensors, (id) => this.#placeOf(id));
  }

  run(): OffloadedGraph {
    const { graph, buffers } = this.#placed;
    for (const op of graph.ops) for (const piece of this.#cut(op)) this.#place(piece);
    this.#ops.push(...this.#deferred.release(0));
    for (const { id, slot, offset } of this.#slotted)
      this.#places.set(id, { buffer: STAGING, offsetBytes: slot * this.#slotBytes + offset });

    const sizes = new Map<string, number>();
    const host = new Set([STAGING, hostPart(SCALARS)]);
    for (const [name, bytes] of buffers) {
      const { fromBytes = bytes, endBytes = bytes, to } = this.#moved.get(name) ?? {};
      const gone = endBytes - fromBytes;
      if (bytes > gone) sizes.set(name, bytes - gone);
      if (to === 'host') sizes.set(hostPart(name), gone);
      host.add(hostPart(name));
      // What lies behind moves up.
      for (const [id, place] of this.#places)
        if (gone > 0 && place.buffer === name && place.offsetBytes >= endBytes)
          this.#places.set(id, { buffer: name, offsetBytes: place.offsetBytes - gone });
    }
    if (this.#scalarBytes > 0) for (const name of [SCALARS, hostPart(SCALARS)]) sizes.set(name, this.#scalarBytes);
    sizes.set(STAGING, this.#tiling.slots * this.#slotBytes);
    const built: Graph = { ...graph, tensors: this.#tensors, ops: this.#ops };
    const scratch = this.#scratch;
    const offloaded = { graph: built, places: this.#places, buffers: sizes, host, scratch };
    return { ...offloaded, extents: this.#extents, fileBytes: this.#fileBytes };
  }

  /** An op that touches what has moved, in pieces that fit a slot and lie wholly here or there. */
  #cut(op: Op): readonly Op[] {
    const { cut } = ruleOf(op.kind);
    const operands = [...op.inputs, ...op.outputs];
    const borders = operands.flatMap((id) => this.#borderOf(id));
    const isMoved = operands.some((id) => this.#isMoved(this.#placeOf(id)));
    if (!cut || (!isMoved && borders.length === 0)) return [op];
    const length = elementCount(this.#tensors[op.outputs[0]!]!.dims);
    const { tileElements } = this.#tiling;
    const starts = new Set([0, ...borders]);
    // What has inputs elsewhere is staged; the rest can stay whole.
    if (op.inputs.length > 0) for (let start = 0; start < length; start += tileElements) starts.add(start);
    const sorted = [...starts].sort((a, b) => a - b);
    if (sorted.length === 1) return [op];
    return sorted.map((start, index) => {
      const count = (sorted[index + 1] ?? length) - start;
      const part = (id: TensorId) => this.#partOf(id, length, start, count);
      const attributes = cut(op.attributes, start, count);
      return { ...op, inputs: op.inputs.map(part), outputs: op.outputs.map(part), attributes };
    });
  }

  /** The elements of a tensor that lie where its buffer ends on the device, if it goes on elsewhere. */
  #borderOf(id: TensorId): readonly number[] {
    const place = this.#placeOf(id);
    const from = place && this.#moved.get(place.buffer)?.fromBytes;
    if (from === undefined) return [];
    const tensor = this.#tensors[id]!;
    const at = from - place!.offsetBytes;
    return at > 0 && at < byteLength(tensor) ? [at / DTYPE_BYTES[tensor.dtype]] : [];
  }

  #partOf(id: TensorId, length: number, start: number, count: number): TensorId {
    const tensor = this.#tensors[id]!;
    if (elementCount(tensor.dims) !== length) return id;
    const place = this.#placeOf(id);
    const offsetBytes = (place?.offsetBytes ?? 0) + start * DTYPE_BYTES[tensor.dtype];
    return this.#tensor({ ...tensor, dims: [count], place: place ? { ...place, offsetBytes } : null });
  }

  /** An update in place lies where what it updates does. */
  #placeOf(id: TensorId): Place | undefined {
    for (let at: TensorId | null = id; at !== null; at = this.#tensors[at]!.continues) {
      const place = this.#places.get(at);
      if (place) return place;
    }
    return undefined;
  }

  #isMoved(place: Place | undefined): boolean {
    const moved = place && this.#moved.get(place.buffer);
    if (!moved) return false;
    const { fromBytes, endBytes = Number.POSITIVE_INFINITY } = moved;
    return place.offsetBytes >= fromBytes && place.offsetBytes < endBytes;
  }

  /** Emits an op where its operands lie, with the copies that it needs. */
  #place(op: Op): void {
    const isOnHost = [...op.inputs, ...op.outputs].some((id) => this.#isMoved(this.#placeOf(id)));
    const isAddedTo = op.attributes.accumulate === 1;
    for (const id of isAddedTo ? [...op.inputs, ...op.outputs] : op.inputs)
      this.#bring(id, isOnHost ? 'host' : 'device');
    if (isOnHost && ruleOf(op.kind).isCollective) {
      this.#gather(op);
      return;
    }
    if (isOnHost) {
      this.#onHost(op);
      return;
    }
    for (const id of op.outputs) {
      const scalar = this.#scalarOf(id);
      if (scalar !== null) this.#scalars.delete(scalar);
    }
    if (!this.#deferred.takes(op)) this.#ops.push(op);
  }

  /** An exchange of what lives on the host: from a copy on the device; among one rank the copy is all there is to do. */
  #gather(op: Op): void {
    const [slice] = op.inputs;
    const tensor = this.#tensors[slice!]!;
    const { buffer, offsetBytes } = this.#placeOf(slice!)!;
    const { fromBytes } = this.#moved.get(buffer)!;
    const from = this.#tensor({ ...tensor, place: { buffer: hostPart(buffer), offsetBytes: offsetBytes - fromBytes } });
    const [whole] = op.outputs;
    if (byteLength(this.#tensors[whole!]!) === byteLength(tensor)) {
      this.#ops.push(this.#copy(from, whole!));
      return;
    }
    const region = `slice.${this.#scratch.size}`;
    this.#scratch.set(region, byteLength(tensor));
    const here = this.#tensor({ ...tensor, place: { buffer: region, offsetBytes: 0 } });
    this.#ops.push(this.#copy(from, here), { ...op, inputs: [here] });
  }

  #onHost(op: Op): void {
    const { slots } = this.#tiling;
    const slot = new Slot(this.#pieces % slots);
    const ins: Op[] = [];
    const outs: Op[] = [];
    const record = this.#record(op, slot);
    if (record !== null) ins.push({ ...record, kind: 'disk_read', inputs: [] });
    if (record !== null) outs.push({ ...record, kind: 'disk_write', outputs: [] });
    const inputs = op.inputs.map((id) => this.#operand(id, slot, 'in'));
    const outputs = op.outputs.map((id) => this.#operand(id, slot, 'out'));
    for (const { from, to, isRead, isWritten } of slot.copies.values()) {
      if (isRead) ins.push(this.#copy(from, to));
      if (isWritten) outs.push(this.#copy(to, from));
    }
    const step = { ...op, inputs, outputs };
    if (slot.bytes === 0) {
      if (!this.#deferred.takes(step)) this.#ops.push(step);
      return;
    }
    this.#pieces++;
    this.#slotBytes = Math.max(this.#slotBytes, Math.ceil(slot.bytes / PAGE) * PAGE);
    const isBound = ins.some((copy) => this.#deferred.precedes(copy));
    this.#ops.push(...this.#deferred.release(isBound ? 0 : slots - 1), ...ins);
    this.#ops.push(...this.#deferred.release(Math.max(0, slots - 2)), step);
    this.#deferred.open(outs);
  }

  /** What of the operands lies in the file, in one piece at the beginning of the slot: an op that has it as input and output. */
  #record(op: Op, slot: Slot): Op | null {
    const fileOffset = this.#fileBytes;
    for (const id of [...op.inputs, ...op.outputs]) {
      const place = this.#placeOf(id);
      if (!place || !this.#isMoved(place) || this.#moved.get(place.buffer)!.to !== 'disk' || slot.has(place)) continue;
      const { buffer, offsetBytes } = place;
      const bytes = byteLength(this.#tensors[id]!);
      const offset = slot.offsetOf(id, place, bytes, PAGE);
      this.#extents.push({ buffer, offsetBytes, bytes, fileOffset: fileOffset + offset });
    }
    const { bytes } = slot;
    if (bytes === 0) return null;
    this.#fileBytes += bytes;
    const whole = this.#tensor({ dtype: 'u8', dims: [bytes], path: op.path, place: null });
    this.#slotted.push({ id: whole, slot: slot.number, offset: 0 });
    const attributes = { file: 0, offset: fileOffset, bytes };
    return { kind: op.kind, path: op.path, inputs: [whole], outputs: [whole], attributes };
  }

  /** The tensor that an op on the host takes in the place of `id`. */
  #operand(id: TensorId, slot: Slot, as: 'in' | 'out'): TensorId {
    const tensor = this.#tensors[id]!;
    const place = this.#placeOf(id) ?? null;
    if (this.#scalarOf(id) !== null) {
      if (as === 'out') this.#scalars.set(place!.offsetBytes, 'host');
      return this.#tensor({ ...tensor, place: { buffer: hostPart(SCALARS), offsetBytes: place!.offsetBytes } });
    }
    if (place && this.#isMoved(place) && this.#moved.get(place.buffer)!.to === 'host') {
      const { fromBytes } = this.#moved.get(place.buffer)!;
      return this.#tensor({
        ...tensor,
        place: { buffer: hostPart(place.buffer), offsetBytes: place.offsetBytes - fromBytes },
      });
    }
    const offset = slot.offsetOf(id, place, byteLength(tensor));
    const staged = this.#tensor({ ...tensor, place: null });
    this.#slotted.push({ id: staged, slot: slot.number, offset });
    if (place && !this.#isMoved(place)) slot.note(place, { from: id, to: staged }, as);
    return staged;
  }

  /** Gives a scalar that somebody on the host reads a lasting place. */
  #adopt(id: TensorId): void {
    this.#places.set(id, { buffer: SCALARS, offsetBytes: this.#scalarBytes });
    this.#scalarBytes += Math.ceil(byteLength(this.#tensors[id]!) / LINE) * LINE;
  }

  /** Where a scalar lies among its like, or null for what is none. */
  #scalarOf(id: TensorId): number | null {
    const place = this.#placeOf(id);
    return place?.buffer === SCALARS ? place.offsetBytes : null;
  }

  /** Copies a scalar if it was last written on the other side. */
  #bring(id: TensorId, to: 'device' | 'host'): void {
    if (to === 'host' && !this.#placeOf(id)) this.#adopt(id);
    const scalar = this.#scalarOf(id);
    if (scalar === null) return;
    const newest = this.#scalars.get(scalar) ?? 'device';
    if (newest === 'both' || newest === to) return;
    const tensor = this.#tensors[id]!;
    // Whatever they mean, their bits are moved.
    const words = { ...tensor, dtype: 'f32' as const };
    const here = this.#tensor({ ...words, place: { buffer: SCALARS, offsetBytes: scalar } });
    const there = this.#tensor({ ...words, place: { buffer: hostPart(SCALARS), offsetBytes: scalar } });
    this.#ops.push(to === 'host' ? this.#copy(here, there) : this.#copy(there, here));
    this.#scalars.set(scalar, 'both');
  }

  #copy(from: TensorId, to: TensorId): Op {
    return { kind: 'copy', path: this.#tensors[from]!.path, inputs: [from], outputs: [to], attributes: {} };
  }

  #tensor({ dtype, dims, path, place }: Staged): TensorId {
    const id = this.#tensors.length;
    this.#tensors.push({ id, dtype, dims, role: 'state', path, continues: null });
    if (place) this.#places.set(id, place);
    return id;
  }
}

interface SlotCopy {
  readonly from: TensorId;
  readonly to: TensorId;
  readonly isRead: boolean;
  readonly isWritten: boolean;
}

/** What one piece has in its slot. */
class Slot {
  readonly number: number;
  bytes = 0;
  /** By place on the device. */
  readonly copies = new Map<string, SlotCopy>();
  readonly #offsets = new Map<string, number>();

  constructor(number: number) {
    this.number = number;
  }

  has(place: Place): boolean {
    return this.#offsets.has(placeKey(place));
  }

  /** Room for a tensor; what lies on the same bytes outside does so here. */
  offsetOf(id: TensorId, place: Place | null, bytes: number, alignment = LINE): number {
    const key = place ? placeKey(place) : `${id}`;
    const known = this.#offsets.get(key);
    if (known !== undefined) return known;
    const offset = this.bytes;
    this.#offsets.set(key, offset);
    this.bytes += Math.ceil(bytes / alignment) * alignment;
    return offset;
  }

  note(place: Place, { from, to }: Pick<SlotCopy, 'from' | 'to'>, as: 'in' | 'out'): void {
    const key = placeKey(place);
    const known = this.copies.get(key);
    const isRead = as === 'in' || (known?.isRead ?? false);
    const isWritten = as === 'out' || (known?.isWritten ?? false);
    this.copies.set(key, { from: known?.from ?? from, to: known?.to ?? to, isRead, isWritten });
  }
}

const placeKey = ({ buffer, offsetBytes }: Place): string => `${buffer}@${offsetBytes}`;
