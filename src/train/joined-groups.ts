// The communicators of one rank: listens for those between machines, joins all that it is told to, watches over them, and leaves them.
import { ConfigError, EngineError } from '../common/index.js';
import { type Communicators, GROUPS } from '../engine/index.js';
import { type NativeCommunicator, type NativeDevice, native } from '../native/index.js';
import type { JointPlan } from './plan-joints.js';

const JOIN_TIMEOUT_MS = 60_000;
/**
 * How long a rank that lives may let the others wait. One whose process has ended or stands still is noticed within seconds; slow
 * data or a long export is no failure.
 */
const LATE_MS_MAX = 600_000;

/** How often a rank that waits for nobody looks whether its groups are whole. */
const CHECK_MS = 250;

export class JoinedGroups implements Disposable {
  readonly #listeners = new Map<string, object>();
  readonly #joined: NativeCommunicator[] = [];
  /** Those of them that a device can join: of programs in an order that all ranks have, then those between neighbours of a pipeline by their ids. */
  readonly #groups: NativeCommunicator[] = [];
  readonly #left = new AbortController();
  #watchdog: { dispose(): void } | null = null;

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
    const links: [id: string, link: NativeCommunicator][] = [];
    for (const [index, result] of joined.entries()) {
      const { names } = joints[index]!;
      if (result.status === 'rejected') {
        const cause = result.reason as Error;
        const detail = `rank ${rank} cannot join its ${names[0]!} group: ${cause.message}`;
        throw new EngineError({ detail, rank }, { cause });
      }
      for (const name of names) communicators[name] = result.value;
      if (GROUPS.some((name) => names.includes(name))) this.#groups.push(result.value);
      else links.push([joints[index]!.id, result.value]);
    }
    // Neighbours may stand in a ring: by their ids, ranks that wait for each other never do so in a circle.
    this.#groups.push(...links.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, link]) => link));
    if (this.#joined.length > 0) this.#watchdog = native().watchGroups(this.#joined);
    return communicators;
  }

  /**
   * Has `device` make the collectives of the groups itself, and pass what neighbours of a pipeline send each other. One
   * group after the other, in an order that all ranks have. Why it cannot for one of them; null if it can for all.
   */
  async joinDevice(device: NativeDevice, rank: number): Promise<string | null> {
    let reason: string | null = null;
    for (const communicator of this.#groups) {
      try {
        const found = await device.join(communicator, LATE_MS_MAX);
        reason ??= found; // of all: what one rank leaves out, others would wait for
      } catch (cause) {
        const detail = `rank ${rank} cannot join its GPU to the others': ${(cause as Error).message}`;
        throw new EngineError({ detail, rank }, { cause });
      }
    }
    return reason;
  }

  /** Rejects with EngineError once a group is broken, whether or not this rank waits for a peer; resolves when it leaves them. */
  broken(): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearInterval(timer);
        resolve();
      };
      const timer = setInterval(() => {
        try {
          for (const communicator of this.#joined) communicator.check();
        } catch (cause) {
          clearInterval(timer);
          const { message, rank } = cause as Error & { readonly rank?: number };
          reject(new EngineError({ detail: message, rank: rank ?? null }, { cause }));
        }
      }, CHECK_MS);
      timer.unref();
      if (this.#left.signal.aborted) leave();
      else this.#left.signal.addEventListener('abort', leave, { once: true });
    });
  }

  [Symbol.dispose](): void {
    this.#left.abort();
    this.#watchdog?.dispose();
    this.#watchdog = null;
    for (const communicator of this.#joined.splice(0)) communicator.dispose();
  }

  async #join({ id, rank, ranks, way }: JointPlan): Promise<NativeCommunicator> {
    const common = { rank, names: ranks, timeoutMs: JOIN_TIMEOUT_MS, operationTimeoutMs: LATE_MS_MAX };
    if (way.kind === 'shm') return native().joinShmGroup({ name: way.name, size: ranks.length, ...common });
    const listener = this.#listeners.get(id);
    if (!listener) throw new ConfigError('group', 'listen() before join()', 'no listening socket');
    this.#listeners.delete(id);
    const options = { ...common, listener, addresses: way.addresses, secret: way.secret, seals: way.seals };
    if (way.kind === 'tcp') return native().joinTcpGroup(options);
    return native().joinHierarchicalGroup({ ...options, name: way.name, machines: way.machines });
  }
}
