// Two GPUs that exchange by NCCL: the end of one process of a group of two, whose rank 0 sends tensors and rank 1 takes them.
import { type NativeCommunicator, type NativeDevice, native } from '../native/index.js';

const JOIN_TIMEOUT_MS = 30_000;
/** How long one end waits for the other in a transfer. */
const LATE_MS_MAX = 60_000;
/** How often an end that waits for nobody looks whether the other is there. */
const CHECK_MS = 1_000;

export const SENDER = 0;
export const TAKER = 1;

/** How the two find each other: in the shared memory of their machine, or by TCP. */
export type PairWay =
  | { readonly kind: 'shm'; readonly name: string }
  | { readonly kind: 'tcp'; readonly addresses: readonly string[]; readonly secret: string; readonly listener: object };

export class Pair implements Disposable {
  /** Why the GPUs cannot exchange by themselves; null: they do. */
  readonly reason: string | null;
  readonly #device: NativeDevice;
  readonly #group: NativeCommunicator;
  readonly #watch: { dispose(): void };
  readonly #timer: NodeJS.Timeout;
  readonly #onBroken: () => void;
  #isOpen = true;

  private constructor(device: NativeDevice, group: NativeCommunicator, reason: string | null, onBroken: () => void) {
    this.reason = reason;
    this.#device = device;
    this.#group = group;
    this.#onBroken = onBroken;
    this.#watch = native().watchGroups([group]);
    this.#timer = setInterval(() => this.#check(), CHECK_MS).unref();
  }

  /** Waits for the other end; `onBroken` is called once when the pair is of no use any more. Rejects with code "COMM". */
  static async join(device: NativeDevice, rank: number, way: PairWay, onBroken: () => void): Promise<Pair> {
    const common = { rank, names: [SENDER, TAKER], timeoutMs: JOIN_TIMEOUT_MS, operationTimeoutMs: LATE_MS_MAX };
    const group = await (way.kind === 'shm'
      ? native().joinShmGroup({ ...common, name: way.name, size: 2 })
      : native().joinTcpGroup({
          ...common,
          listener: way.listener,
          addresses: way.addresses,
          secret: way.secret,
          seals: true,
        }));
    try {
      return new Pair(device, group, await device.join(group, LATE_MS_MAX), onBroken);
    } catch (error) {
      group.dispose();
      throw error;
    }
  }

  /** Sends or takes `bytes` from `offset` of a buffer on, behind what was asked before. Rejects with code "COMM"; the pair is broken then. */
  async pass(buffer: number, offset: number, bytes: number): Promise<void> {
    const peer = this.#group.rank === SENDER ? { to: TAKER } : { from: SENDER };
    try {
      await this.#device.pass(this.#group, { buffer, offset, bytes, ...peer });
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Ends what is under way, at the other end too. */
  giveUp(reason: string): void {
    if (this.#isOpen) this.#group.abort(reason);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    clearInterval(this.#timer);
    this.#watch.dispose();
    this.#group.dispose();
    this.#onBroken();
  }

  #check(): void {
    try {
      this.#group.check();
    } catch {
      this[Symbol.dispose]();
    }
  }
}
