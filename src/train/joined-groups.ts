// The communicators of one rank: listens for those over TCP, joins all that it is told to, and leaves them.
import { ConfigError, EngineError } from '../common/index.js';
import type { Communicators } from '../engine/index.js';
import { type NativeCommunicator, native } from '../native/index.js';
import type { JointPlan } from './plan-joints.js';

const JOIN_TIMEOUT_MS = 60_000;
/** A rank that died is noticed at once; this is for one that hangs. Slow data or a swapping machine is no failure. */
const LATE_MS_MAX = 600_000;

export class JoinedGroups implements Disposable {
  readonly #listeners = new Map<string, object>();
  readonly #joined: NativeCommunicator[] = [];

  /** Opens the socket of a coming TCP group on `host`. */
  listen(id: string, host: string): number {
    const { port, listener } = native().listenTcpGroup(host);
    this.#listeners.set(id, listener);
    return port;
  }

  /** Joins all of them at once and waits for all of their ranks. `rank` is this one's number in the job, for messages. */
  async join(joints: readonly JointPlan[], rank: number): Promise<Communicators> {
    const joined = await Promise.allSettled(joints.map((joint) => this.#join(joint)));
    for (const result of joined) if (result.status === 'fulfilled') this.#joined.push(result.value);
    const communicators: Record<string, NativeCommunicator> = {};
    for (const [index, result] of joined.entries()) {
      const { names } = joints[index]!;
      if (result.status === 'rejected') {
        const cause = result.reason as Error;
        const detail = `rank ${rank} cannot join its ${names[0]!} group: ${cause.message}`;
        throw new EngineError({ detail, rank }, { cause });
      }
      for (const name of names) communicators[name] = result.value;
    }
    return communicators;
  }

  [Symbol.dispose](): void {
    for (const communicator of this.#joined.splice(0)) communicator.dispose();
  }

  async #join({ id, rank, size, way }: JointPlan): Promise<NativeCommunicator> {
    const timeouts = { timeoutMs: JOIN_TIMEOUT_MS, operationTimeoutMs: LATE_MS_MAX };
    if (way.kind === 'shm') return native().joinShmGroup({ name: way.name, rank, size, ...timeouts });
    const listener = this.#listeners.get(id);
    if (!listener) throw new ConfigError('group', 'listen() before join()', 'no listening socket');
    this.#listeners.delete(id);
    return native().joinTcpGroup({ listener, addresses: way.addresses, rank, secret: way.secret, ...timeouts });
  }
}
