// Pass: ZeRO-Offload (arXiv:2101.06840), ZeRO-Infinity (arXiv:2104.07857). Buffers, or their ends, have left the device. What touches
// them runs on the host, a piece at a time: its other operands are copied into a slot of a staging buffer, steps in place, and
// what it changed is copied back; what lies in a file is read into the slot and written again. Pieces take the slots in turn, so that one
// is stepped while the next comes and the last goes. What the device itself wants to have is copied there; of a file, through buffers
// that are read ahead as far as there are such. Copies are the only ops that touch device and host both. Knows no optimiser.
import { byteLength, type Graph, type Op, type TensorId } from '../graph.js';
import type { Layout } from '../layout.js';
import {
  evenPiece,
  type FileContents,
  hostPart,
  type MovedBuffer,
  movedBuffers,
  type Offload,
  PIECE_UNIT,
  pagesOf,
  type Tiling,
  tilingOf,
} from '../offload.js';
import { ruleOf } from '../ops/index.js';
import type { OptimizerSettings } from '../optimizer.js';
import type { PlacedGraph } from '../plan/placement.js';
import { DeferredOps } from './deferred-ops.js';
import { MovedTensors } from './moved-tensors.js';
import { OffloadFiles } from './offload-files.js';
import { Slot } from './offload-slot.js';

/** Scalars have a twin on the host, which is brought up to date when somebody there reads it, and the other way round. */
const SCALARS = 'update_scalars';
/** Host memory of the slots of pieces. */
const STAGING = 'staging';
const LINE = 64;

export interface OffloadedGraph extends PlacedGraph {
  /** What the pass put into the file of records. */
  readonly records: FileContents;
}

/** What leaves the device for a job, and the pass that all its programs go through. */
export function offloader(
  layout: Layout,
  settings: OptimizerSettings,
  { optimizer = null }: Offload,
  hasBucketedGradients: boolean,
) {
  const moved = movedBuffers(layout, settings, optimizer, hasBucketedGradients);
  const tiling = tilingOf(layout, settings, optimizer);
  return { moved, moveOut: (placed: PlacedGraph) => offload(placed, moved, tiling) };
}

export function offload(placed: PlacedGraph, moved: ReadonlyMap<string, MovedBuffer>, tiling: Tiling): OffloadedGraph {
  if (moved.size === 0) return { ...placed, records: { extents: [], bytes: 0 } };
  return new Offloader(placed, moved, tiling).run();
}

class Offloader {
  readonly #placed: PlacedGraph;
  readonly #tiling: Tiling;
  readonly #tensors: MovedTensors;
  readonly #files: OffloadFiles;
  readonly #ops: Op[] = [];
  readonly #deferred: DeferredOps;
  /** Which copy of a scalar is the newest; not in it: the device's. */
  readonly #scalars = new Map<number, 'host' | 'both'>();
  readonly #scratch: Map<string, number>;
  readonly #slotted: { readonly id: TensorId; readonly slot: number; readonly offset: number }[] = [];
  #scalarBytes: number;
  #slotBytes = 0;
  #pieces = 0;

  constructor(placed: PlacedGraph, moved: ReadonlyMap<string, MovedBuffer>, tiling: Tiling) {
    this.#placed = placed;
    this.#tiling = tiling;
    this.#scratch = new Map(placed.scratch);
    this.#scalarBytes = placed.buffers.get(SCALARS) ?? 0;
    const tensors = new MovedTensors(placed, moved);
    this.#tensors = tensors;
    this.#files = new OffloadFiles(tensors);
    this.#deferred = new DeferredOps(tensors.tensors, (id) => tensors.placeOf(id));
  }

  run(): OffloadedGraph {
    const { graph } = this.#placed;
    for (const op of graph.ops) for (const piece of this.#cut(op)) this.#place(piece);
    this.#ops.push(...this.#deferred.release(0));
    const { tensors, places } = this.#tensors;
    for (const { id, slot, offset } of this.#slotted)
      places.set(id, { buffer: STAGING, offsetBytes: slot * this.#slotBytes + offset });
    const sizes = this.#sizes();
    sizes.set(STAGING, this.#tiling.slots * this.#slotBytes);
    const windows = this.#files.settle();
    for (const [name, bytes] of windows) sizes.set(name, bytes);
    const given = [SCALARS, ...this.#placed.buffers.keys()];
    const host = new Set([STAGING, ...windows.keys(), ...given.map(hostPart)]);
    const built: Graph = { ...graph, tensors, ops: this.#ops };
    return { graph: built, places, buffers: sizes, host, scratch: this.#scratch, records: this.#files.records };
  }

  /** Bytes of the given buffers on either side. What lies behind a part that has moved moves up. */
  #sizes(): Map<string, number> {
    const { places, moved } = this.#tensors;
    const sizes = new Map<string, number>();
    for (const [name, bytes] of this.#placed.buffers) {
      const { fromBytes, diskFromBytes, endBytes } = endsOf(moved.get(name), bytes);
      const gone = endBytes - fromBytes;
      if (bytes > gone) sizes.set(name, bytes - gone);
      if (diskFromBytes > fromBytes) sizes.set(hostPart(name), diskFromBytes - fromBytes);
      for (const [id, place] of places)
        if (gone > 0 && place.buffer === name && place.offsetBytes >= endBytes)
          places.set(id, { buffer: name, offsetBytes: place.offsetBytes - gone });
    }
    if (this.#scalarBytes > 0) for (const name of [SCALARS, hostPart(SCALARS)]) sizes.set(name, this.#scalarBytes);
    return sizes;
  }

  /** An op that touches what has moved, in pieces that fit a slot and lie wholly here or there. */
  #cut(op: Op): readonly Op[] {
    const { cut } = ruleOf(op.kind);
    const tensors = this.#tensors;
    const operands = [...op.inputs, ...op.outputs];
    const borders = operands.flatMap((id) => tensors.borderOf(id));
    const isMoved = operands.some((id) => tensors.isMoved(id));
    if (!cut || (!isMoved && borders.length === 0)) return [op];
    const length = tensors.lengthOf(op.outputs[0]!);
    const { tileElements } = this.#tiling;
    const starts = new Set([0, ...borders]);
    // What has inputs elsewhere, or goes to a file, is staged; the rest can stay whole.
    const isStaged = op.inputs.length > 0 || tensors.homeOf(op.outputs[0]!) === 'disk';
    const step = evenPiece(length, tileElements, PIECE_UNIT);
    if (isStaged) for (let start = 0; start < length; start += step) starts.add(start);
    const sorted = [...starts].sort((a, b) => a - b);
    if (sorted.length === 1) return [op];
    return sorted.map((start, index) => {
      const count = (sorted[index + 1] ?? length) - start;
      const part = (id: TensorId) => (tensors.lengthOf(id) === length ? tensors.partOf(id, start, count) : id);
      const attributes = cut(op.attributes, start, count);
      return { ...op, inputs: op.inputs.map(part), outputs: op.outputs.map(part), attributes };
    });
  }

  /** Emits an op where its operands lie, with the copies that it needs. */
  #place(op: Op): void {
    const isOnHost = [...op.inputs, ...op.outputs].some((id) => this.#tensors.isMoved(id));
    const isAddedTo = op.attributes.accumulate === 1;
    for (const id of isAddedTo ? [...op.inputs, ...op.outputs] : op.inputs)
      this.#bring(id, isOnHost ? 'host' : 'device');
    if (isOnHost && ruleOf(op.kind).isCollective) {
      this.#gather(op);
      return;
    }
    if (isOnHost && op.kind === 'copy') {
      this.#transport(op);
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

  /** An exchange of what has left the device: from a copy there; among one rank the copy is all there is to do. */
  #gather(op: Op): void {
    const [slice] = op.inputs;
    const tensor = this.#tensors.tensors[slice!]!;
    const [whole] = op.outputs;
    if (this.#tensors.lengthOf(whole!) === this.#tensors.lengthOf(slice!)) {
      this.#fetch(slice!, whole!);
      return;
    }
    const region = `slice.${this.#scratch.size}`;
    this.#scratch.set(region, byteLength(tensor));
    const here = this.#tensors.add({ ...tensor, place: { buffer: region, offsetBytes: 0 } });
    this.#fetch(slice!, here);
    this.#ops.push({ ...op, inputs: [here] });
  }

  /** Copies what has left the device into `to`. */
  #fetch(id: TensorId, to: TensorId): void {
    if (this.#tensors.homeOf(id) === 'disk') this.#ops.push(...this.#files.fetch(id, to));
    else this.#ops.push(this.#tensors.copy(this.#tensors.onHost(id), to));
  }

  /** A copy between the device and what has left it. */
  #transport({ inputs, outputs }: Op): void {
    const [from, to] = [inputs[0]!, outputs[0]!];
    if (this.#tensors.isMoved(from)) this.#fetch(from, to);
    else if (this.#tensors.homeOf(to) === 'disk') this.#ops.push(...this.#files.put(from, to));
    else this.#ops.push(this.#tensors.copy(from, this.#tensors.onHost(to)));
  }

  #onHost(op: Op): void {
    const { slots } = this.#tiling;
    const slot = new Slot(this.#pieces % slots);
    const ins: Op[] = [];
    const outs: Op[] = [];
    const transfers = this.#files.transfers(op, slot);
    for (const { op: pages, offset, isRead, isWritten } of transfers) {
      this.#slotted.push({ id: pages.inputs[0]!, slot: slot.number, offset });
      if (isRead) ins.push({ ...pages, kind: 'disk_read', inputs: [] });
      if (isWritten) outs.push({ ...pages, kind: 'disk_write', outputs: [] });
    }
    const inputs = op.inputs.map((id) => this.#operand(id, slot, 'in'));
    const outputs = op.outputs.map((id) => this.#operand(id, slot, 'out'));
    for (const { from, to, isRead, isWritten } of slot.copies.values()) {
      if (isRead) ins.push(this.#tensors.copy(from, to));
      if (isWritten) outs.push(this.#tensors.copy(to, from));
    }
    const step = { ...op, inputs, outputs };
    if (slot.bytes === 0) {
      if (!this.#deferred.takes(step)) this.#ops.push(step);
      return;
    }
    this.#pieces++;
    this.#slotBytes = Math.max(this.#slotBytes, pagesOf(slot.bytes));
    const isBound = transfers.some((transfer) => transfer.isBound) || ins.some((copy) => this.#deferred.precedes(copy));
    this.#ops.push(...this.#deferred.release(isBound ? 0 : slots - 1), ...ins);
    this.#ops.push(...this.#deferred.release(Math.max(0, slots - 2)), step);
    this.#deferred.open(outs);
  }

  /** The tensor that an op on the host takes in the place of `id`. */
  #operand(id: TensorId, slot: Slot, as: 'in' | 'out'): TensorId {
    const tensors = this.#tensors;
    const tensor = tensors.tensors[id]!;
    const place = tensors.placeOf(id) ?? null;
    if (this.#scalarOf(id) !== null) {
      if (as === 'out') this.#scalars.set(place!.offsetBytes, 'host');
      return tensors.add({ ...tensor, place: { buffer: hostPart(SCALARS), offsetBytes: place!.offsetBytes } });
    }
    if (tensors.homeOf(id) === 'host') return tensors.onHost(id);
    const offset = slot.offsetOf(id, place, byteLength(tensor));
    const staged = tensors.add({ ...tensor, place: null });
    this.#slotted.push({ id: staged, slot: slot.number, offset });
    if (place && !tensors.isMoved(id)) slot.note(place, { from: id, to: staged }, as);
    return staged;
  }

  /** Gives a scalar that somebody on the host reads a lasting place. */
  #adopt(id: TensorId): void {
    this.#tensors.places.set(id, { buffer: SCALARS, offsetBytes: this.#scalarBytes });
    this.#scalarBytes += Math.ceil(byteLength(this.#tensors.tensors[id]!) / LINE) * LINE;
  }

  /** Where a scalar lies among its like, or null for what is none. */
  #scalarOf(id: TensorId): number | null {
    const place = this.#tensors.placeOf(id);
    return place?.buffer === SCALARS ? place.offsetBytes : null;
  }

  /** Copies a scalar if it was last written on the other side. */
  #bring(id: TensorId, to: 'device' | 'host'): void {
    const tensors = this.#tensors;
    if (to === 'host' && !tensors.placeOf(id)) this.#adopt(id);
    const scalar = this.#scalarOf(id);
    if (scalar === null) return;
    const newest = this.#scalars.get(scalar) ?? 'device';
    if (newest === 'both' || newest === to) return;
    // Whatever they mean, their bits are moved.
    const words = { ...tensors.tensors[id]!, dtype: 'f32' as const };
    const here = tensors.add({ ...words, place: { buffer: SCALARS, offsetBytes: scalar } });
    const there = tensors.add({ ...words, place: { buffer: hostPart(SCALARS), offsetBytes: scalar } });
    this.#ops.push(to === 'host' ? tensors.copy(here, there) : tensors.copy(there, here));
    this.#scalars.set(scalar, 'both');
  }
}

/** What has moved of a buffer of `bytes`. */
function endsOf(moved: MovedBuffer | undefined, bytes: number): Omit<MovedBuffer, 'file'> {
  const within = (end: number) => Math.min(end, bytes);
  const { fromBytes, diskFromBytes, endBytes } = moved ?? { fromBytes: bytes, diskFromBytes: bytes, endBytes: bytes };
  return {
    fromBytes: within(fromBytes),
    diskFromBytes: within(Math.min(diskFromBytes, endBytes)),
    endBytes: within(endBytes),
  };
}
