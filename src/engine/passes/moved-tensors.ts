// The tensors of a placed graph of which some have left the device: where each is, and how new ones that stand for them are made.
import { byteLength, DTYPE_BYTES, type Dtype, elementCount, type Op, type Tensor, type TensorId } from '../graph.js';
import { homeOf, hostPart, type MovedBuffer } from '../offload.js';
import type { Place, PlacedGraph } from '../plan/placement.js';

/** A tensor to be. Without a place it gets one later. */
export interface NewTensor {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly path: string;
  readonly place: Place | null;
}

export class MovedTensors {
  readonly tensors: Tensor[];
  readonly places: Map<TensorId, Place>;
  readonly moved: ReadonlyMap<string, MovedBuffer>;

  constructor({ graph, places }: PlacedGraph, moved: ReadonlyMap<string, MovedBuffer>) {
    this.tensors = [...graph.tensors];
    this.places = new Map(places);
    this.moved = moved;
  }

  /** An update in place lies where what it updates does. */
  placeOf(id: TensorId): Place | undefined {
    for (let at: TensorId | null = id; at !== null; at = this.tensors[at]!.continues) {
      const place = this.places.get(at);
      if (place) return place;
    }
    return undefined;
  }

  homeOf(id: TensorId): 'device' | 'host' | 'disk' {
    const place = this.placeOf(id);
    return place ? homeOf(this.moved.get(place.buffer), place.offsetBytes) : 'device';
  }

  isMoved(id: TensorId): boolean {
    return this.homeOf(id) !== 'device';
  }

  /** The elements of a tensor that lie where its buffer ends on the device, if it goes on elsewhere. */
  borderOf(id: TensorId): readonly number[] {
    const place = this.placeOf(id);
    const from = place && this.moved.get(place.buffer)?.fromBytes;
    if (from === undefined) return [];
    const tensor = this.tensors[id]!;
    const at = from - place!.offsetBytes;
    return at > 0 && at < byteLength(tensor) ? [at / DTYPE_BYTES[tensor.dtype]] : [];
  }

  add({ dtype, dims, path, place }: NewTensor): TensorId {
    const id = this.tensors.length;
    this.tensors.push({ id, dtype, dims, role: 'state', path, continues: null });
    if (place) this.places.set(id, place);
    return id;
  }

  /** `count` elements of a tensor from `start` on. */
  partOf(id: TensorId, start: number, count: number): TensorId {
    const tensor = this.tensors[id]!;
    const place = this.placeOf(id);
    const offsetBytes = (place?.offsetBytes ?? 0) + start * DTYPE_BYTES[tensor.dtype];
    return this.add({ ...tensor, dims: [count], place: place ? { ...place, offsetBytes } : null });
  }

  lengthOf(id: TensorId): number {
    return elementCount(this.tensors[id]!.dims);
  }

  /** What lives in the memory of the host, as programs find it there. */
  onHost(id: TensorId): TensorId {
    const { buffer, offsetBytes } = this.placeOf(id)!;
    const place = { buffer: hostPart(buffer), offsetBytes: offsetBytes - this.moved.get(buffer)!.fromBytes };
    return this.add({ ...this.tensors[id]!, place });
  }

  copy(from: TensorId, to: TensorId): Op {
    return { kind: 'copy', path: this.tensors[from]!.path, inputs: [from], outputs: [to], attributes: {} };
  }
}
