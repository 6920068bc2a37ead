// A model's parameters in device memory, by checkpoint name. Training, evaluation and decoding share one store. Where they are
// stored in 16 bits, a training job also keeps the exact values of what its rank owns: the masters that the optimiser steps.
import { ConfigError, EngineError } from '../../common/index.js';
import type { NativeDevice, TensorRead } from '../../native/index.js';
import { DTYPE_BYTES, type FloatType } from '../graph.js';
import { type Layout, type ParameterPlace, type ParameterSlice, placesOf } from '../layout.js';
import { narrow } from '../narrow.js';
import { dequantiseNf4, nf4Bytes, quantiseNf4 } from '../nf4.js';
import { widen } from '../widen.js';
import type { DeviceBuffers } from './buffers.js';

/** Where a file holds the values of a parameter. */
export interface StoredValues {
  readonly name: string;
  /** Byte of the file at which they begin. */
  readonly fileOffset: number;
  readonly dtype: FloatType;
}

/** What weights are loaded into. */
export interface WeightTarget {
  load(name: string, values: Float32Array): void;
  /** Whether the target has room for this parameter; others are not loaded. Default: for all. */
  has?(name: string): boolean;
  /** Whole parameters from an open file at once, without a copy in between, where the target can. */
  loadFile?(fd: number, stored: readonly StoredValues[]): Promise<void>;
  /** Whether `loadFile` takes this parameter. Default: all. */
  takesFile?(name: string): boolean;
}

export class ParameterStore implements Disposable, WeightTarget {
  readonly device: NativeDevice;
  readonly layout: Layout;
  /** Of everything. */
  readonly bytes: number;
  /** Id of the device buffer that programs read. */
  readonly #buffer: number;
  readonly #master: { readonly buffer: number; readonly slices: ReadonlyMap<string, ParameterSlice> } | null;
  readonly #places: ReadonlyMap<string, ParameterPlace>;
  #isDisposed = false;

  /** Allocates zeroed memory for the parameters of `layout`, and for f32 masters of the parts in `mastered`. */
  constructor(device: NativeDevice, layout: Layout, mastered: readonly ParameterSlice[] | null = null) {
    this.device = device;
    this.layout = layout;
    const bytes = layout.parameterElements * DTYPE_BYTES[layout.dtype];
    const masterBytes = mastered ? layout.sliceElements * DTYPE_BYTES.f32 : 0;
    this.bytes = bytes + masterBytes;
    this.#buffer = device.allocate(bytes);
    this.#master = mastered && {
      buffer: device.allocate(masterBytes),
      slices: new Map(mastered.map((slice) => [slice.name, slice])),
    };
    this.#places = placesOf(layout);
  }

  /** A stage of a pipeline has the parameters of its parts alone. */
  has(name: string): boolean {
    return this.#places.has(name);
  }

  /** Names and dims, in the order of the layout. */
  get parameters(): readonly ParameterPlace[] {
    return [...this.#places.values()];
  }

  /** Those that are not frozen. */
  get trained(): readonly ParameterPlace[] {
    const frozen = new Set(this.layout.frozen.map(({ name }) => name));
    return this.parameters.filter(({ name }) => !frozen.has(name));
  }

  /** Makes the memory known to programs, as `parameters` and `master`. It stays this store's. */
  lendTo(buffers: DeviceBuffers): void {
    const { dtype, parameterElements, sliceElements } = this.layout;
    buffers.borrow('parameters', this.#buffer, parameterElements * DTYPE_BYTES[dtype]);
    if (this.#master) buffers.borrow('master', this.#master.buffer, sliceElements * DTYPE_BYTES.f32);
  }

  /** The memory itself of an f32 parameter: writes through it change the model. */
  view(name: string): Float32Array {
    const { offset, length, nf4 } = this.#place(name);
    if (nf4) throw new ConfigError(name, 'a parameter in 32 bits', 'one in 4 bits', 'Use load() and read()');
    if (this.layout.dtype !== 'f32') throw new ConfigError(name, 'parameters stored in f32', this.layout.dtype);
    return new Float32Array(this.device.view(this.#buffer), offset * DTYPE_BYTES.f32, length);
  }

  /** Sets a parameter, rounded to the storage type; masters keep what they hold of it exactly. */
  load(name: string, values: Float32Array): void {
    const { length, nf4 } = this.#place(name);
    if (values.length !== length) throw new ConfigError(name, `${length} values`, values.length);
    if (nf4) quantiseNf4(values, this.#bytes(name), nf4);
    else this.#write(name, 0, values);
    const slice = this.#master?.slices.get(name);
    if (!slice) return;
    const { parameterOffset } = slice;
    this.#masterOf(slice).set(values.subarray(parameterOffset, parameterOffset + slice.length));
  }

  /** Sets the part of a parameter that a rank owns, as load() the whole. */
  loadSlice(slice: ParameterSlice, values: Float32Array): void {
    if (values.length !== slice.length) throw new ConfigError(slice.name, `${slice.length} values`, values.length);
    this.#write(slice.name, slice.parameterOffset, values);
    if (this.#master) this.#masterOf(slice).set(values);
  }

  /** Whether {@link loadFile} takes this parameter: one in 4 bits must be loaded, to be rounded. */
  takesFile(name: string): boolean {
    return this.#place(name).nf4 === undefined;
  }

  /** Reads parameters of a file straight into place, on all threads. Throws EngineError when the file is shorter than it was. */
  async loadFile(fd: number, stored: readonly StoredValues[]): Promise<void> {
    const { dtype: to } = this.layout;
    const reads = stored.flatMap(({ name, fileOffset, dtype: from }): TensorRead[] => {
      const { offset, length } = this.#place(name);
      const whole = {
        fileOffset,
        count: length,
        from,
        buffer: this.#buffer,
        bufferOffset: offset * DTYPE_BYTES[to],
        to,
      };
      const slice = this.#master?.slices.get(name);
      if (!slice) return [whole];
      const { parameterOffset, sliceOffset, length: owned } = slice;
      const begin = fileOffset + parameterOffset * DTYPE_BYTES[from];
      const bufferOffset = sliceOffset * DTYPE_BYTES.f32;
      return [whole, { fileOffset: begin, count: owned, from, buffer: this.#master!.buffer, bufferOffset, to: 'f32' }];
    });
    try {
      await this.device.readFile(fd, reads);
    } catch (cause) {
      throw new EngineError({ detail: cause instanceof Error ? cause.message : String(cause), rank: null }, { cause });
    }
  }

  /** A copy of the parameter as programs see it. */
  read(name: string): Float32Array {
    const { offset, length, nf4 } = this.#place(name);
    if (nf4) return dequantiseNf4(this.#bytes(name), length, nf4);
    const { dtype } = this.layout;
    if (dtype === 'f32') return this.view(name).slice();
    const size = DTYPE_BYTES[dtype];
    return widen(new Uint8Array(this.device.view(this.#buffer), offset * size, length * size), dtype);
  }

  /** Of a parameter in 4 bits. */
  #bytes(name: string): Uint8Array {
    const { offset, length, nf4 } = this.#place(name);
    const { dtype } = this.layout;
    return new Uint8Array(this.device.view(this.#buffer), offset * DTYPE_BYTES[dtype], nf4Bytes(length, nf4!));
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.device.free(this.#buffer);
    if (this.#master) this.device.free(this.#master.buffer);
  }

  /** Rounds values to the storage type, from element `start` of a parameter on. */
  #write(name: string, start: number, values: Float32Array): void {
    const { dtype } = this.layout;
    if (dtype === 'f32') {
      this.view(name).set(values, start);
      return;
    }
    const offset = (this.#place(name).offset + start) * DTYPE_BYTES[dtype];
    new Uint16Array(this.device.view(this.#buffer), offset, values.length).set(narrow(values, dtype));
  }

  #masterOf({ sliceOffset, length }: ParameterSlice): Float32Array {
    return new Float32Array(this.device.view(this.#master!.buffer), sliceOffset * DTYPE_BYTES.f32, length);
  }

  #place(name: string): ParameterPlace {
    const place = this.#places.get(name);
    if (!place) throw new ConfigError(name, 'the name of a parameter of the model', name);
    return place;
  }
}
