// Memory of a device as a value: what travels is where it lies and a ref that keeps it. The bytes stay where they are.

import type { ObjectRef } from '../client/index.js';
import { currentRuntime } from '../client/process/index.js';
import { ConfigError } from '../common/index.js';
import { byteLength, type Dtype } from '../engine/index.js';
import type { NativeDevice } from '../native/index.js';
import { lentShares } from './lent-shares.js';
import { grantWish } from './pair-sender.js';

/** Element types of tensors that actors share. */
export interface TensorType {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
}

/** Where a tensor lies on a device: what `Program.place` says of an input or output. */
export interface TensorPlace extends TensorType {
  readonly buffer: number;
  /** Of its first byte in the buffer. Default 0. */
  readonly offsetBytes?: number;
}

/**
 * A tensor on a device, for whoever gets this value: as a result, an argument, or in one. Plain data; `openTensor` gives its memory.
 * The tensor lives as long as any process holds it; it ends with the process that shared it.
 */
export interface SharedTensor extends TensorType {
  /** Keeps the tensor. Awaited, it gives the bytes as they were when somebody first asked, by way of the host. */
  readonly ref: ObjectRef<Uint8Array>;
  /** Of the device. */
  readonly place: string;
  /** That the device is in. */
  readonly machine: string;
  /** The id of the process that shared it. */
  readonly sender: string;
  /** Of the memory that the tensor is in, which may be that of others too. */
  readonly memoryBytes: number;
  readonly offsetBytes: number;
  /** What other processes of the place open it by; null: they get a copy. */
  readonly handle: Uint8Array | null;
}

/**
 * Shares a tensor of a device with other actors. Runs that write it must have ended. Its memory is kept until all who hold the result
 * have let go of it, whether or not the buffer is freed here meanwhile; the first who is handed it takes this process's hold over.
 * Nobody is kept from writing to it: that is between those who share it. Throws ConfigError for what does not lie in the buffer.
 */
export function shareTensor(device: NativeDevice, { buffer, dtype, dims, offsetBytes = 0 }: TensorPlace): SharedTensor {
  const runtime = currentRuntime();
  const share = device.share(buffer);
  const bytes = byteLength({ dtype, dims });
  if (!Number.isInteger(offsetBytes) || offsetBytes < 0 || offsetBytes + bytes > share.bytes) {
    share.dispose();
    throw new ConfigError(
      'tensor',
      `${bytes} bytes inside of a buffer of ${share.bytes}`,
      offsetBytes,
      `${dtype}[${dims}] begins at that byte`,
    );
  }
  const read = async (): Promise<Uint8Array> => {
    const copy = new Uint8Array(bytes);
    share.read(offsetBytes, copy);
    return copy;
  };
  const { host } = runtime.attached;
  const ref = runtime.writer.lend(
    read,
    () => {
      lentShares.delete(ref.id);
      share.dispose();
    },
    (wish) => grantWish(wish, { device, share, offsetBytes, bytes, host }),
  );
  lentShares.set(ref.id, share);
  const { place, handle, bytes: memoryBytes } = share;
  const { machine } = device;
  return { ref, place, machine, sender: runtime.workerId, memoryBytes, offsetBytes, handle, dtype, dims: [...dims] };
}
