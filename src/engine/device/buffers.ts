// Named memory on a device: allocated once, shared by the programs of a job, freed together. Beside it the files of the job, which stay
// their owners'.
import type { NativeDevice, NativeSwapFile } from '../../native/index.js';
import { byteLength, type Dtype, elementCount } from '../graph.js';
import { FILES, type FileName } from '../offload.js';
import type { Place } from '../plan/placement.js';
import type { Plan } from '../plan/plan.js';

/** The bytes of a typed array, without a copy. */
export const bytesOf = ({
  buffer,
  byteOffset,
  byteLength: length,
}: Float32Array | Int32Array | Uint16Array): Uint8Array => new Uint8Array(buffer, byteOffset, length);

/** The named memory of a job on one device. */
export class DeviceBuffers {
  readonly #device: NativeDevice;
  readonly #buffers = new Map<string, { readonly id: number; readonly bytes: number; readonly isOwned: boolean }>();

  /** By the number that programs know them by. */
  readonly files: (NativeSwapFile | null)[] = Object.keys(FILES).map(() => null);

  constructor(device: NativeDevice) {
    this.#device = device;
  }

  /** Makes a file that another owner opened known to programs. */
  borrowFile(name: FileName, file: NativeSwapFile): void {
    this.files[FILES[name]] = file;
  }

  /** Makes sure that every buffer of the plans exists and is large enough. Buffers already there must be large enough. */
  reserve(plans: readonly Plan[]): void {
    const sizes = new Map<string, { readonly bytes: number; readonly isOnHost: boolean }>();
    for (const { buffers } of plans)
      for (const { name, bytes, isOnHost } of buffers)
        sizes.set(name, { bytes: Math.max(sizes.get(name)?.bytes ?? 0, bytes), isOnHost });
    for (const [name, { bytes, isOnHost }] of sizes) {
      const known = this.#buffers.get(name);
      if (!known) this.#buffers.set(name, { id: this.#device.allocate(bytes, isOnHost), bytes, isOwned: true });
      else if (known.bytes < bytes)
        throw new Error(`buffer ${name} has ${known.bytes} bytes, a program needs ${bytes}`);
    }
  }

  /** Makes a buffer that another owner allocated known under `name`. */
  borrow(name: string, id: number, bytes: number): void {
    this.#buffers.set(name, { id, bytes, isOwned: false });
  }

  /** The same buffers, with memory of its own under `name`, as large as there. Dispose of it before its source. */
  withOwn(name: string): DeviceBuffers {
    const derived = new DeviceBuffers(this.#device);
    for (const [known, { id, bytes }] of this.#buffers) derived.borrow(known, id, bytes);
    derived.files.splice(0, this.files.length, ...this.files);
    const { bytes } = this.#buffers.get(name)!;
    derived.#buffers.set(name, { id: this.#device.allocate(bytes), bytes, isOwned: true });
    return derived;
  }

  id(name: string): number {
    const buffer = this.#buffers.get(name);
    if (!buffer) throw new Error(`there is no buffer ${name}`);
    return buffer.id;
  }

  /** `length` elements of f32 from `offset` (in elements) on, without a copy. */
  floats(name: string, offset: number, length: number): Float32Array {
    return new Float32Array(this.#device.view(this.id(name)), offset * 4, length);
  }

  /** As floats(), the bits of a 16-bit type. */
  halves(name: string, offset: number, length: number): Uint16Array {
    return new Uint16Array(this.#device.view(this.id(name)), offset * 2, length);
  }

  /** A copy of `length` elements of f32, for what is too large to be viewed on a GPU. */
  readFloats(name: string, offset: number, length: number): Float32Array {
    const values = new Float32Array(length);
    this.#device.read(this.id(name), offset * 4, bytesOf(values));
    return values;
  }

  /** As readFloats(), the bits of a 16-bit type. */
  readHalves(name: string, offset: number, length: number): Uint16Array {
    const values = new Uint16Array(length);
    this.#device.read(this.id(name), offset * 2, bytesOf(values));
    return values;
  }

  /** Sets elements of the size of those of `values` from element `offset` on. */
  write(name: string, offset: number, values: Float32Array | Int32Array | Uint16Array): void {
    this.#device.write(this.id(name), offset * values.BYTES_PER_ELEMENT, bytesOf(values));
  }

  /** Copies bytes within a buffer, on the device. */
  move(name: string, from: number, to: number, bytes: number): void {
    this.#device.copy(this.id(name), from, this.id(name), to, bytes);
  }

  /** The bytes of a named input or output of a program, without a copy. */
  bytes(plan: Plan, name: string): Uint8Array {
    const { buffer, offsetBytes, bytes } = placeOf(plan, name);
    return new Uint8Array(this.#device.view(this.id(buffer)), offsetBytes, bytes);
  }

  /** The memory of a named input or output of a program, without a copy. Integers for i32, else floats. */
  tensor(plan: Plan, name: string): Float32Array | Int32Array {
    const { buffer, offsetBytes, dtype, dims } = placeOf(plan, name);
    if (dtype !== 'i32' && dtype !== 'f32') throw new Error(`${name} is ${dtype}: neither floats nor integers`);
    const View = dtype === 'i32' ? Int32Array : Float32Array;
    return new View(this.#device.view(this.id(buffer)), offsetBytes, elementCount(dims));
  }

  dispose(): void {
    for (const { id, isOwned } of this.#buffers.values()) if (isOwned) this.#device.free(id);
    this.#buffers.clear();
  }
}

/** Where a named input or output of a program lies, and what it is. */
export function placeOf(
  plan: Plan,
  name: string,
): Place & { readonly dtype: Dtype; readonly dims: readonly number[]; readonly bytes: number } {
  const id = plan.graph.inputs.get(name) ?? plan.graph.outputs.get(name);
  const place = id === undefined ? undefined : plan.places.get(id);
  if (id === undefined || !place) throw new Error(`the program has no input or output ${name}`);
  const { dtype, dims } = plan.graph.tensors[id]!;
  return { ...place, dtype, dims, bytes: byteLength({ dtype, dims }) };
}
