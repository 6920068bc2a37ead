// The communicators of one rank: listens for those between machines, joins all that it is told to, watches over them, and leaves them.
import { ConfigError, EngineError } from '../common/index.js';
import { type Communicators, GROUPS } from '../engine/index.js';
import { type NativeCommunicator, type NativeDevice, native, type WatchNews } from '../native/index.js';
import type { JointPlan } from './plan-joints.js';
import type { LateNews } from './rank-messages.js';

const JOIN_TIMEOUT_MS = 60_000;

export class JoinedGroups implements Disposable {
  readonly #listeners = new Map<string, object>();
  readonly #joined: NativeCommunicator[] = [];
  /** Those of them that a device can join: of programs in an order that all ranks have, then those between neighbours of a pipeline by their ids. */
  readonly #groups: NativeCommunicator[] = [];
  /** What the watch has said and nobody has taken yet; null: this rank has left. */
  #news: WatchNews[] | null = [];
  #wake = (): void => {};
  #lateMsMax = 0;
  #watchdog: { dispose(): void } | null = null;

  /** Opens the socket of a coming TCP group on `host`. */
  listen(id: string, host: string): number {
    const { port, listener } = native().listenTcpGroup(host);
    this.#listeners.set(id, listener);
    return port;
  }

  /**
   * Joins all of them at once and waits for all of their ranks. `rank` is this one's number in the job, for messages. A rank that lives may let
   * the others wait for `lateMsMax`; one whose process has ended or stands still is noticed within seconds.
   */
  async join(joints: readonly JointPlan[], rank: number, lateMsMax: number): Promise<Communicators> {
    this.#lateMsMax = lateMsMax;
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
    if (this.#joined.length > 0) this.#watchdog = native().watchGroups(this.#joined, (news) => this.#hear(news));
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
        const found = await device.join(communicator, this.#lateMsMax);
        reason ??= found; // of all: what one rank leaves out, others would wait for
      } catch (cause) {
        const detail = `rank ${rank} cannot join its GPU to the others': ${(cause as Error).message}`;
        throw new EngineError({ detail, rank }, { cause });
      }
    }
    return reason;
  }

  /** Who lets this rank wait, and when they have come. Throws EngineError once a group is broken; ends when this rank leaves them. */
  async *news(): AsyncGenerator<LateNews, void, undefined> {
    for (;;) {
      for (const { kind, ranks, message } of this.#news?.splice(0) ?? []) {
        if (kind === 'broken')
          throw new EngineError({ detail: message, rank: ranks[0] ?? null }, { cause: new Error(message) });
        yield { kind, ranks, message };
      }
      if (this.#news === null) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  [Symbol.dispose](): void {
    this.#watchdog?.dispose();
    this.#watchdog = null;
    this.#news = null;
    this.#wake();
    for (const communicator of this.#joined.splice(0)) communicator.dispose();
  }

  #hear(news: WatchNews): void {
    this.#news?.push(news);
    this.#wake();
  }

  async #join({ id, rank, ranks, way }: JointPlan): Promise<NativeCommunicator> {
    const common = { rank, names: ranks, timeoutMs: JOIN_TIMEOUT_MS, operationTimeoutMs: this.#lateMsMax };
    if (way.kind === 'shm') return native().joinShmGroup({ name: way.name, size: ranks.length, ...common });
    const listener = this.#listeners.get(id);
    if (!listener) throw new ConfigError('group', 'listen() before join()', 'no listening socket');
    this.#listeners.delete(id);
    const options = { ...common, listener, addresses: way.addresses, secret: way.secret, seals: way.seals };
    if (way.kind === 'tcp') return native().joinTcpGroup(options);
    return native().joinHierarchicalGroup({ ...options, name: way.name, machines: way.machines });
  }
}
