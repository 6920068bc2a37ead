// The actors of the tests of shared tensors: one makes and holds, one takes.
import type { ObjectRef } from '#src/client/index.js';
import { createDevice, type DeviceOptions } from '#src/engine/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { type OpenTensor, openTensor, type SharedTensor, shareTensor } from '#src/tensors/index.js';

const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

export class Maker {
  readonly #device: NativeDevice;
  #buffer = 0;
  constructor(options: DeviceOptions) {
    this.#device = createDevice(options);
  }
  /** `count` numbers from `first` on, behind 8 bytes of something else; `keeps`: the buffer too. */
  make(first: number, count: number, keeps = false): SharedTensor {
    const buffer = this.#device.allocate(8 + 4 * count);
    this.#device.write(buffer, 8, bytesOf(Float32Array.from({ length: count }, (_, at) => first + at)));
    const tensor = shareTensor(this.#device, { buffer, offsetBytes: 8, dtype: 'f32', dims: [count] });
    if (keeps) this.#buffer = buffer;
    else this.#device.free(buffer);
    return tensor;
  }
  /** The first number of what was kept. */
  first(): number {
    const value = new Float32Array(1);
    this.#device.read(this.#buffer, 8, bytesOf(value));
    return value[0]!;
  }
  misplaced(): string {
    const buffer = this.#device.allocate(64);
    try {
      shareTensor(this.#device, { buffer, offsetBytes: 4, dtype: 'f32', dims: [4, 4] });
      return 'shared';
    } catch (error) {
      return String(error);
    } finally {
      this.#device.free(buffer);
    }
  }
  /** Opens what this process shared. */
  async ownRoute(): Promise<string> {
    using opened = await openTensor(this.make(1, 2), this.#device);
    return opened.route;
  }
  pid(): number {
    return process.pid;
  }
}

/** One that does both. */
export class Trader {
  readonly #maker: Maker;
  readonly #taker: Taker;
  constructor(options: DeviceOptions) {
    this.#maker = new Maker(options);
    this.#taker = new Taker(options);
  }
  place(): string {
    return this.#taker.place();
  }
  pid(): number {
    return process.pid;
  }
  make(first: number, count: number): SharedTensor {
    return this.#maker.make(first, count);
  }
  open(tensor: SharedTensor): Promise<{ route: string; reason: string | null }> {
    return this.#taker.open(tensor);
  }
  values(): number[] {
    return this.#taker.values();
  }
  firsts(tensors: readonly ObjectRef<SharedTensor>[]): Promise<number[]> {
    return this.#taker.firsts(tensors);
  }
  close(): void {
    this.#taker.close();
  }
}

export class Taker {
  readonly #device: NativeDevice;
  #opened: OpenTensor | null = null;
  constructor(options: DeviceOptions) {
    this.#device = createDevice(options);
  }
  place(): string {
    return this.#device.place;
  }
  async open(tensor: SharedTensor): Promise<{ route: string; reason: string | null }> {
    this.#opened = await openTensor(tensor, this.#device);
    const { route, reason } = this.#opened;
    return { route, reason };
  }
  values(): number[] {
    const { buffer, offsetBytes, dims } = this.#opened!;
    const values = new Float32Array(dims[0]!);
    this.#device.read(buffer, offsetBytes, bytesOf(values));
    return [...values];
  }
  set(value: number): void {
    const { buffer, offsetBytes } = this.#opened!;
    this.#device.write(buffer, offsetBytes, bytesOf(Float32Array.of(value)));
  }
  close(): void {
    this.#opened!.dispose();
    this.#opened!.dispose();
  }
  /** The first number of each, opened together. */
  async firsts(tensors: readonly ObjectRef<SharedTensor>[]): Promise<number[]> {
    const opened = await Promise.all(tensors.map(async (tensor) => openTensor(await tensor, this.#device)));
    return opened.map((each) => {
      const value = new Float32Array(1);
      this.#device.read(each.buffer, each.offsetBytes, bytesOf(value));
      each.dispose();
      return value[0]!;
    });
  }
  /** Passed as a ref inside of a value: not opened by whoever passes it on. */
  async openNested({ tensor }: { tensor: ObjectRef<SharedTensor> }): Promise<string> {
    return (await this.open(await tensor)).route;
  }
}
