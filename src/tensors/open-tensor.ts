// A shared tensor on this process's device: its very memory where there is a way, else a copy.
import { ObjectRef } from '../client/index.js';
import { currentRuntime } from '../client/process/index.js';
import { byteLength, type Dtype } from '../engine/index.js';
import type { NativeDevice } from '../native/index.js';
import { lentShares } from './lent-shares.js';
import type { Wish } from './pair-sender.js';
import { takeByPair } from './pair-taker.js';
import type { SharedTensor } from './share-tensor.js';

/**
 * How a tensor came: the memory itself within a process, or between processes by CUDA's IPC; or a copy, from GPU to GPU of one machine
 * (peer) or by NCCL, or by way of the host.
 */
export type TensorRoute = 'reference' | 'ipc' | 'peer' | 'nccl' | 'host';

/** What came of a ref that is open so many times in this process. */
const openings = new WeakMap<ObjectRef<Uint8Array>, number>();
/** Keeps what devices have open: the memory may not go while it is theirs. */
const kept = new WeakMap<NativeDevice, Set<OpenTensor>>();

/** A buffer of a device that holds a tensor. By reference or ipc it is the memory of whoever shared it, else a copy. */
export class OpenTensor implements Disposable {
  readonly buffer: number;
  readonly offsetBytes: number;
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly route: TensorRoute;
  /** Why it is a copy; null where it is none. */
  readonly reason: string | null;
  readonly #device: NativeDevice;
  readonly #ref: ObjectRef<Uint8Array>;
  #isOpen = true;

  /** Not for users: openTensor makes them. */
  constructor(device: NativeDevice, tensor: SharedTensor, way: Way) {
    this.#device = device;
    this.#ref = tensor.ref;
    this.dtype = tensor.dtype;
    this.dims = tensor.dims;
    this.buffer = way.buffer;
    this.offsetBytes = way.reason === null ? tensor.offsetBytes : 0;
    this.route = way.route;
    this.reason = way.reason;
    openings.set(this.#ref, (openings.get(this.#ref) ?? 0) + 1);
    const held = kept.get(device) ?? new Set();
    kept.set(device, held.add(this));
  }

  /**
   * Frees the buffer, and with the last opening of the tensor in this process lets go of it. Dispose of programs that use the buffer
   * first: EngineError otherwise. Safe to repeat.
   */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#device.free(this.buffer);
    this.#isOpen = false;
    kept.get(this.#device)?.delete(this);
    const left = openings.get(this.#ref)! - 1;
    openings.set(this.#ref, left);
    if (left === 0) this.#ref.release();
  }
  dispose(): void {
    this[Symbol.dispose]();
  }
}

interface Way {
  readonly buffer: number;
  readonly route: TensorRoute;
  readonly reason: string | null;
}

/**
 * Brings a shared tensor to `device`: without a copy where it lies on the same GPU (or in the same process's memory), else copied from GPU to
 * GPU, by NCCL where they cannot reach each other's memory, and by way of the host where that is not to be had either. Dispose of what it returns.
 * Rejects with OwnerDiedError where the process that shared it is gone, ObjectLostError where nobody keeps the tensor any more.
 */
export async function openTensor(tensor: SharedTensor, device: NativeDevice): Promise<OpenTensor> {
  const way = tensor.place === device.place ? nearWay(tensor, device) : await farWay(tensor, device);
  return new OpenTensor(device, tensor, typeof way === 'string' ? await hostWay(tensor, device, way) : way);
}

/** A copy that the host has no part in, or why there is none. */
async function farWay(tensor: SharedTensor, device: NativeDevice): Promise<Way | string> {
  const apart = `it lies on ${tensor.place}, not ${device.place}`;
  if (device.isHost || tensor.handle === null) return apart;
  const peer = peerWay(tensor, device);
  if (typeof peer !== 'string') return { buffer: peer, route: 'peer', reason: apart };
  const reason = `${apart}: ${peer}`;
  const { reader, attached } = currentRuntime();
  const ends = {
    device,
    sender: `${tensor.sender} ${tensor.place}`,
    host: tensor.machine === device.machine ? '' : attached.host,
  };
  const ask = (wish: Wish) => reader.wish(ObjectRef.stateOf(tensor.ref), JSON.stringify(wish));
  const taken = await takeByPair(ends, ask, byteLength(tensor));
  if (typeof taken === 'number') return { buffer: taken, route: 'nccl', reason };
  return `${reason}; by NCCL neither: ${taken}`;
}

/** A buffer with a copy from another GPU of the machine, or why there is none. */
function peerWay(tensor: SharedTensor, device: NativeDevice): number | string {
  if (tensor.machine !== device.machine) return 'on another machine';
  const { memoryBytes, offsetBytes } = tensor;
  try {
    const from = lentShares.get(tensor.ref.id) ?? tensor.handle!;
    return device.copyShared(from, memoryBytes, offsetBytes, byteLength(tensor));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The memory itself, or why it cannot be had. */
function nearWay(tensor: SharedTensor, device: NativeDevice): Way | string {
  const share = lentShares.get(tensor.ref.id);
  if (share) return { buffer: device.adopt(share), route: 'reference', reason: null };
  if (!tensor.handle) return 'its memory cannot be opened by other processes';
  try {
    return { buffer: device.openShared(tensor.handle, tensor.memoryBytes), route: 'ipc', reason: null };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function hostWay(tensor: SharedTensor, device: NativeDevice, reason: string): Promise<Way> {
  const bytes = await tensor.ref;
  const buffer = device.allocate(byteLength(tensor));
  device.write(buffer, 0, bytes);
  return { buffer, route: 'host', reason };
}
