// The optimiser's state and masters of what a rank owns, wherever they live: on the device, in the memory of the host, in a file.
import { ConfigError } from '../../common/index.js';
import { DTYPE_BYTES, type FloatType } from '../graph.js';
import type { Layout, ParameterSlice } from '../layout.js';
import { narrow } from '../narrow.js';
import { homeOf, hostPart, type MovedBuffer } from '../offload.js';
import type { StateBuffer } from '../optimizer.js';
import { widen } from '../widen.js';
import { bytesOf, type DeviceBuffers } from './buffers.js';
import type { OffloadFile } from './offload-file.js';
import type { Target } from './parameter-memory.js';
import type { MasterMemory } from './parameter-store.js';

export type StateName = StateBuffer | 'master';

/** Where a run of elements lies. */
interface Run {
  readonly buffer: string;
  readonly dtype: FloatType;
  readonly offset: number;
  /** Null: in memory. */
  readonly file: OffloadFile | null;
}

/** The optimiser's state and the masters of a rank, wherever they lie. */
export class StateMemory implements MasterMemory {
  readonly slices: ReadonlyMap<string, ParameterSlice>;
  readonly #buffers: DeviceBuffers;
  readonly #layout: Layout;
  readonly #moved: ReadonlyMap<string, MovedBuffer>;
  readonly #file: OffloadFile | null;

  /** `buffers` and `file` stay the caller's. */
  constructor(
    buffers: DeviceBuffers,
    layout: Layout,
    slices: readonly ParameterSlice[],
    moved: ReadonlyMap<string, MovedBuffer> = new Map(),
    file: OffloadFile | null = null,
  ) {
    this.#buffers = buffers;
    this.#layout = layout;
    this.slices = new Map(slices.map((slice) => [slice.name, slice]));
    this.#moved = moved;
    this.#file = file;
  }

  /** A copy. */
  read(name: StateName, slice: ParameterSlice): Float32Array {
    const { buffer, dtype, offset, file } = this.#runOf(name, slice);
    if (file) {
      const bytes = file.read(buffer, offset * DTYPE_BYTES[dtype], slice.length * DTYPE_BYTES[dtype]);
      return dtype === 'f32' ? new Float32Array(bytes.buffer) : widen(bytes, dtype);
    }
    if (dtype === 'f32') return this.#buffers.readFloats(buffer, offset, slice.length);
    return widen(bytesOf(this.#buffers.readHalves(buffer, offset, slice.length)), dtype);
  }

  write(name: StateName, slice: ParameterSlice, values: Float32Array): void {
    const { length } = slice;
    if (values.length !== length) throw new ConfigError(`${name} of ${slice.name}`, `${length} values`, values.length);
    const { buffer, dtype, offset, file } = this.#runOf(name, slice);
    const stored = dtype === 'f32' ? values : narrow(values, dtype);
    if (file) file.write(buffer, offset * DTYPE_BYTES[dtype], bytesOf(stored));
    else this.#buffers.write(buffer, offset, stored);
  }

  masterTarget(slice: ParameterSlice): Target | null {
    const { buffer, offset, file } = this.#runOf('master', slice);
    if (file) return null;
    return { buffer: this.#buffers.id(buffer), bufferOffset: offset * DTYPE_BYTES.f32 };
  }

  writeMaster(slice: ParameterSlice, values: Float32Array): void {
    this.write('master', slice, values);
  }

  #runOf(name: StateName, { sliceOffset, stateOffset }: ParameterSlice): Run {
    const dtype = name === 'master' ? 'f32' : this.#layout.stateDtype;
    const offset = name === 'master' ? sliceOffset : stateOffset;
    const moved = this.#moved.get(name);
    const home = homeOf(moved, offset * DTYPE_BYTES[dtype]);
    if (home === 'device') return { buffer: name, dtype, offset, file: null };
    if (home === 'disk') return { buffer: name, dtype, offset, file: this.#file };
    return { buffer: hostPart(name), dtype, offset: offset - moved!.fromBytes / DTYPE_BYTES[dtype], file: null };
  }
}
