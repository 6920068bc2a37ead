// The bytes of `parameters` wherever they are: on the device, in the memory of the host, in a file.
import { ConfigError } from '../../common/index.js';
import type { NativeDevice } from '../../native/index.js';
import { DTYPE_BYTES } from '../graph.js';
import type { Layout } from '../layout.js';
import { type FileSettings, homeOf, hostPart, type MovedBuffer, movedParameters } from '../offload.js';
import type { DeviceBuffers } from './buffers.js';
import { OffloadFile } from './offload-file.js';

const NAME = 'parameters';

/** A place in memory, in bytes. */
export interface Target {
  /** The device's id of it. */
  readonly buffer: number;
  readonly bufferOffset: number;
}

export class ParameterMemory implements Disposable {
  readonly #device: NativeDevice;
  readonly #size: number;
  readonly #moved: MovedBuffer | undefined;
  readonly #deviceBytes: number;
  readonly #hostBytes: number;
  /** Null: nothing of it. */
  readonly #buffer: number | null;
  readonly #hostBuffer: number | null;
  readonly #file: OffloadFile | null;
  #isDisposed = false;

  /** Allocates zeroed memory, and a file as `settings` say where the layout has slices in one. */
  constructor(device: NativeDevice, layout: Layout, settings: FileSettings | null) {
    this.#device = device;
    this.#size = DTYPE_BYTES[layout.dtype];
    this.#moved = movedParameters(layout).get(NAME);
    const { fromBytes, diskFromBytes, endBytes } = this.#moved ?? { fromBytes: 0, diskFromBytes: 0, endBytes: 0 };
    this.#deviceBytes = layout.parameterElements * this.#size - (endBytes - fromBytes);
    this.#hostBytes = diskFromBytes - fromBytes;
    const { file = null } = this.#moved ?? {};
    if (file && !settings)
      throw new ConfigError('offloadParam.file', 'where the file of the parameters lies', settings);
    this.#file = file && new OffloadFile(settings!, file.contents);
    this.#buffer = this.#deviceBytes > 0 ? device.allocate(this.#deviceBytes) : null;
    this.#hostBuffer = this.#hostBytes > 0 ? device.allocate(this.#hostBytes, true) : null;
  }

  lendTo(buffers: DeviceBuffers): void {
    if (this.#buffer !== null) buffers.borrow(NAME, this.#buffer, this.#deviceBytes);
    if (this.#hostBuffer !== null) buffers.borrow(hostPart(NAME), this.#hostBuffer, this.#hostBytes);
    if (this.#file) buffers.borrowFile(NAME, this.#file.file);
  }

  /** Where element `offset` of `parameters` is in memory; null: in the file. */
  target(offset: number): Target | null {
    const bytes = offset * this.#size;
    const home = homeOf(this.#moved, bytes);
    if (home === 'disk') return null;
    const { fromBytes = 0, endBytes = 0 } = this.#moved ?? {};
    if (home === 'host') return { buffer: this.#hostBuffer!, bufferOffset: bytes - fromBytes };
    return { buffer: this.#buffer!, bufferOffset: bytes < fromBytes ? bytes : bytes - (endBytes - fromBytes) };
  }

  /** Fills `bytes` from element `offset` on. */
  read(offset: number, bytes: Uint8Array): void {
    const target = this.target(offset);
    if (target) this.#device.read(target.buffer, target.bufferOffset, bytes);
    else bytes.set(this.#file!.read(NAME, offset * this.#size, bytes.length));
  }

  write(offset: number, bytes: Uint8Array): void {
    const target = this.target(offset);
    if (target) this.#device.write(target.buffer, target.bufferOffset, bytes);
    else this.#file!.write(NAME, offset * this.#size, bytes);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    for (const buffer of [this.#buffer, this.#hostBuffer]) if (buffer !== null) this.#device.free(buffer);
    this.#file?.[Symbol.dispose]();
  }
}
