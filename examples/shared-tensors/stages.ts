// Two stages that run in actors of their own: one makes a tensor on its device, the other works on it where it lies.
import { createDevice, type DeviceOptions } from 'raylite/engine';
import { openTensor, type SharedTensor, shareTensor } from 'raylite/tensors';

const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

export class Source {
  readonly #device;
  constructor(options: DeviceOptions) {
    this.#device = createDevice(options);
  }
  /** The numbers from 1 to `count`. Their memory lives as long as somebody holds what is returned. */
  make(count: number): SharedTensor {
    const buffer = this.#device.allocate(4 * count);
    this.#device.write(buffer, 0, bytesOf(Float32Array.from({ length: count }, (_, at) => at + 1)));
    const tensor = shareTensor(this.#device, { buffer, dtype: 'f32', dims: [count] });
    this.#device.free(buffer);
    return tensor;
  }
}

export class Sink {
  readonly #device;
  constructor(options: DeviceOptions) {
    this.#device = createDevice(options);
  }
  /** Their sum, and how they came. */
  async sum(tensor: SharedTensor): Promise<string> {
    using opened = await openTensor(tensor, this.#device);
    const values = new Float32Array(opened.dims[0]!);
    this.#device.read(opened.buffer, opened.offsetBytes, bytesOf(values));
    return `${values.reduce((total, value) => total + value, 0)} by ${opened.route}`;
  }
}
