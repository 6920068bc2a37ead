// A model's parameters in device memory, by checkpoint name, or of each what its rank keeps (ZeRO stage 3). Training, evaluation
// and decoding share one store. Where they are stored in 16 bits, a training job also has the exact values of what its rank owns,
// the masters that the optimiser steps: they get what the store gets.
import { ConfigError, EngineError } from '../../common/index.js';
import type { NativeDevice, TensorRead } from '../../native/index.js';
import { DTYPE_BYTES, elementCount, type FloatType } from '../graph.js';
import {
  type Layout,
  type ParameterPart,
  type ParameterPlace,
  type ParameterSlice,
  parameterBuckets,
  parametersOf,
  partsOf,
} from '../layout.js';
import { narrow } from '../narrow.js';
import { type Nf4Settings, nf4Bytes, quantiseNf4 } from '../nf4.js';
import type { FileSettings } from '../offload.js';
import { type Cut, heldWithin, runsOf, takeShard } from '../shard.js';
import { bytesOf, type DeviceBuffers } from './buffers.js';
import { decodeParameter } from './decode-parameter.js';
import { ParameterMemory, type Target } from './parameter-memory.js';

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

/** The masters of a rank. */
export interface MasterMemory {
  /** Of which parts of parameters, by name. */
  readonly slices: ReadonlyMap<string, ParameterSlice>;
  writeMaster(slice: ParameterSlice, values: Float32Array): void;
  /** Where a file may be read into; null where that cannot be, and the values must be written. */
  masterTarget(slice: ParameterSlice): Target | null;
}

/** The parameters of a model in the memory of a device, or what a rank keeps of them, by name. */
export class ParameterStore implements Disposable, WeightTarget {
  readonly device: NativeDevice;
  readonly layout: Layout;
  /** Of everything. */
  readonly bytes: number;
  readonly #memory: ParameterMemory;
  #masters: MasterMemory | null = null;
  readonly #places: ReadonlyMap<string, ParameterPlace>;
  readonly #parts: ReadonlyMap<string, ParameterPart>;
  readonly #tensorRank: number;

  /**
   * Allocates zeroed memory for the parameters of `layout`, or for what partition `rank` keeps of them; of what a tensor group cuts for what the rank
   * `tensorRank` of the group holds. `file` says where a file of slices lies, if the layout has one.
   */
  constructor(device: NativeDevice, layout: Layout, rank = 0, tensorRank = 0, file: FileSettings | null = null) {
    this.device = device;
    this.#tensorRank = tensorRank;
    this.layout = layout;
    this.bytes = layout.parameterElements * DTYPE_BYTES[layout.dtype];
    this.#memory = new ParameterMemory(device, layout, file);
    this.#places = new Map(parametersOf(layout).map((place) => [place.name, place]));
    this.#parts = partsOf(layout, rank);
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
    return this.layout.buckets.flatMap(({ parameters }) => parameters);
  }

  /** Whether there are parameters that no rank keeps whole. */
  get isSliced(): boolean {
    return parameterBuckets(this.layout).some(({ isSliced }) => isSliced);
  }

  /** How the tensor group cuts a parameter; null: not at all. */
  cutOf(name: string): Cut | null {
    return this.#place(name).cut ?? null;
  }

  /** What this rank keeps of a parameter; null for nothing. */
  partOf(name: string): ParameterPart | null {
    this.#place(name);
    return this.#parts.get(name) ?? null;
  }

  /** Where the part of a parameter that this rank owns lies in the buffer `parameters`, in elements. */
  offsetOf({ name, parameterOffset }: ParameterSlice): number {
    const { offset, start } = this.#parts.get(name)!;
    return offset + parameterOffset - start;
  }

  /** Makes the memory known to programs, as `parameters`. It stays this store's. */
  lendTo(buffers: DeviceBuffers): void {
    this.#memory.lendTo(buffers);
  }

  /** From here on `masters`, which stay the caller's, are told what is loaded. */
  keepMasters(masters: MasterMemory): void {
    this.#masters = masters;
  }

  /** The memory itself of an f32 parameter that is whole: writes through it change the model. */
  view(name: string): Float32Array {
    const { length, nf4 } = this.#place(name);
    if (nf4) throw new ConfigError(name, 'a parameter in 32 bits', 'one in 4 bits', 'Use load() and read()');
    if (this.layout.dtype !== 'f32') throw new ConfigError(name, 'parameters stored in f32', this.layout.dtype);
    const { buffer, bufferOffset } = this.#memory.target(this.#whole(name).offset)!;
    return new Float32Array(this.device.view(buffer), bufferOffset, length);
  }

  /**
   * Sets a parameter from all of its values, rounded to the storage type; masters keep what they hold of it exactly. Of what is cut or sliced
   * this rank's part stays.
   */
  load(name: string, whole: Float32Array): void {
    const { length, nf4, cut } = this.#place(name);
    const count = cut ? elementCount(cut.dims) : length;
    if (whole.length !== count) throw new ConfigError(name, `${count} values`, whole.length);
    const values = cut ? takeShard(whole, cut, this.#tensorRank) : whole;
    const part = this.#parts.get(name);
    if (!part) return;
    if (nf4) this.#writeNf4(part, values, nf4);
    else this.loadPart(name, values.subarray(part.start, part.start + part.length));
  }

  /** As load(), given only the values of {@link partOf}. Not for parameters in 4 bits. */
  loadPart(name: string, values: Float32Array): void {
    const part = this.#parts.get(name);
    if (values.length !== (part?.length ?? 0))
      throw new ConfigError(name, `${part?.length ?? 0} values`, values.length);
    if (!part) return;
    this.#write(part.offset, values);
    const slice = this.#masters?.slices.get(name);
    if (!slice) return;
    const from = slice.parameterOffset - part.start;
    this.#masters!.writeMaster(slice, values.subarray(from, from + slice.length));
  }

  /** Sets the part of a parameter that a rank owns, as load() the whole. */
  loadSlice(slice: ParameterSlice, values: Float32Array): void {
    if (values.length !== slice.length) throw new ConfigError(slice.name, `${slice.length} values`, values.length);
    this.#write(this.offsetOf(slice), values);
    this.#masters?.writeMaster(slice, values);
  }

  /** Whether {@link loadFile} takes this parameter: one in 4 bits must be loaded, to be rounded, and one that is itself, or whose master is, in a file. */
  takesFile(name: string): boolean {
    const slice = this.#masters?.slices.get(name);
    const part = this.#parts.get(name);
    if (part && this.#memory.target(part.offset) === null) return false;
    return this.#place(name).nf4 === undefined && (!slice || this.#masters!.masterTarget(slice) !== null);
  }

  /** Reads parameters of a file straight into place, on all threads. Throws EngineError when the file is shorter than it was. */
  async loadFile(fd: number, stored: readonly StoredValues[]): Promise<void> {
    const { dtype: to } = this.layout;
    const reads = stored.flatMap(({ name, fileOffset, dtype: from }): TensorRead[] => {
      const { length, cut } = this.#place(name);
      const part = this.#parts.get(name);
      if (!part) return [];
      const runs = cut ? runsOf(cut, this.#tensorRank) : [{ whole: 0, held: 0, length }];
      /** Elements `start` to `end` of what the tensor group leaves here. */
      const read = (start: number, end: number, { buffer, bufferOffset }: Target, type: FloatType): TensorRead[] =>
        heldWithin(runs, start, end).map((run) => ({
          fileOffset: fileOffset + run.whole * DTYPE_BYTES[from],
          count: run.length,
          from,
          buffer,
          bufferOffset: bufferOffset + (run.held - start) * DTYPE_BYTES[type],
          to: type,
        }));
      const kept = read(part.start, part.start + part.length, this.#memory.target(part.offset)!, to);
      const slice = this.#masters?.slices.get(name);
      if (!slice) return kept;
      const { parameterOffset, length: owned } = slice;
      const target = this.#masters!.masterTarget(slice)!;
      return [...kept, ...read(parameterOffset, parameterOffset + owned, target, 'f32')];
    });
    try {
      await this.device.readFile(fd, reads);
    } catch (cause) {
      throw new EngineError({ detail: cause instanceof Error ? cause.message : String(cause), rank: null }, { cause });
    }
  }

  /** A copy of a parameter that is whole, as programs see it. */
  read(name: string): Float32Array {
    const { offset } = this.#whole(name);
    return decodeParameter((bytes) => this.#memory.read(offset, bytes), this.#place(name), this.layout.dtype);
  }

  /** A copy of the part of a trained parameter that a rank owns. */
  readSlice(slice: ParameterSlice): Float32Array {
    const offset = this.offsetOf(slice);
    return decodeParameter((bytes) => this.#memory.read(offset, bytes), { length: slice.length }, this.layout.dtype);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  /** Rounds values to the storage type, from this element of `parameters` on. */
  #write(element: number, values: Float32Array): void {
    const { dtype } = this.layout;
    this.#memory.write(element, bytesOf(dtype === 'f32' ? values : narrow(values, dtype)));
  }

  #writeNf4({ start, length, offset, isAll }: ParameterPart, values: Float32Array, nf4: Nf4Settings): void {
    const size = DTYPE_BYTES[this.layout.dtype];
    const whole = new Uint8Array(nf4Bytes(values.length, nf4));
    quantiseNf4(values, whole, nf4);
    const part = isAll ? whole : whole.subarray(start * size, (start + length) * size);
    this.#memory.write(offset, part);
  }

  #place(name: string): ParameterPlace {
    const place = this.#places.get(name);
    if (!place) throw new ConfigError(name, 'the name of a parameter of the model', name);
    return place;
  }

  #whole(name: string): ParameterPart {
    this.#place(name);
    const part = this.#parts.get(name);
    if (part?.isAll) return part;
    throw new ConfigError(
      name,
      'a parameter that this rank keeps whole',
      'a slice of it',
      'Call gatherParameter() of the training job, on every rank',
    );
  }
}
