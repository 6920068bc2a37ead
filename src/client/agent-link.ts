// The socket between this process and the node agent of its machine: slabs, the object index, pulls, assignments.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ConnectionError, PROTOCOL_VERSION } from '../common/index.js';
import { type Channel, connectSocket, errorOf, MessageChannel, wire } from '../protocol/index.js';
import { siteOf, withSite } from './call-site.js';

/** What the agent may push. */
export interface AgentPushes {
  readonly assign: (assignment: wire.StartWorker) => void;
  readonly exit: (exit: wire.Exit) => void;
  /** The region of an object in one of our slabs may be used again. */
  readonly vacated: (vacated: wire.Vacated) => void;
  /** The store is full: slabs that are empty go back. */
  readonly collect: () => void;
  /** Of a worker: tell what has been run. */
  readonly tellActivity: () => void;
  /** What this process holds, for `raylite memory`. */
  readonly holdings: () => wire.Holdings.$Properties;
  /** The agent is gone, and with it this machine's part in the cluster. */
  readonly lost: (detail: string) => void;
}

type Reply = Extract<keyof wire.AgentToProcess, 'slab' | 'pulled' | 'attached'>;
interface Waiter {
  readonly resolve: (message: wire.AgentToProcess) => void;
  readonly reject: (error: Error) => void;
}

export class AgentLink {
  readonly #channel: MessageChannel<wire.ProcessToAgent.$Shape, wire.AgentToProcess>;
  readonly #waiters = new Map<number, Waiter>();
  readonly #path: string;
  #nextId = 1;

  private constructor(
    channel: MessageChannel<wire.ProcessToAgent.$Shape, wire.AgentToProcess>,
    path: string,
    pushes: AgentPushes,
  ) {
    this.#channel = channel;
    this.#path = path;
    channel.receive((message) => this.#received(message, pushes));
    channel.onClose(({ error, detail }) => {
      const lost = new ConnectionError({
        address: path,
        detail: `the node agent is gone: ${error?.message ?? detail}`,
      });
      for (const waiter of this.#waiters.values()) waiter.reject(lost);
      this.#waiters.clear();
      pushes.lost(lost.detail);
    });
  }

  /** Connects to the agent's socket at `path`. Rejects with {@link ConnectionError} when it is not there or refuses. */
  static async connect(path: string, pushes: AgentPushes): Promise<AgentLink> {
    return AgentLink.over(await connectSocket(path), path, pushes);
  }
  /** The same on a stream that is open. */
  static over(channel: Channel, path: string, pushes: AgentPushes): AgentLink {
    return new AgentLink(new MessageChannel(channel, wire.ProcessToAgent, wire.AgentToProcess), path, pushes);
  }

  async attach(attach: Omit<wire.Attach.$Shape, 'protocol'>): Promise<wire.Attached> {
    const reply = await this.#request(
      { attach: { ...attach, protocol: PROTOCOL_VERSION }, kind: 'attach' },
      'attached',
    );
    return reply.attached as wire.Attached;
  }
  async leaseSlab(size: number): Promise<wire.Slab> {
    const reply = this.#request({ leaseSlab: { size }, kind: 'leaseSlab' }, 'slab');
    this.#channel.flush(); // who asks has bytes to copy meanwhile
    return (await reply).slab as wire.Slab;
  }
  returnSlab(slab: number): void {
    this.#channel.send({ returnSlab: { slab }, kind: 'returnSlab' });
  }
  /** Brings an object into this node's arena, or says in which file it is; there it stays until `releasePull`. */
  async pull(objectId: string, from: wire.Location.$Shape): Promise<wire.Pulled> {
    const reply = await this.#request({ pull: { objectId, from }, kind: 'pull' }, 'pulled');
    return reply.pulled as wire.Pulled;
  }
  /** @param file the one that it was read from; empty: it lay in the arena */
  releasePull(objectId: string, file = ''): void {
    this.#channel.send({ releasePull: { objectId, file }, kind: 'releasePull' });
  }
  sealed(sealed: wire.Sealed.$Shape, isUrgent: boolean): void {
    this.#channel.send({ sealed, kind: 'sealed' });
    if (isUrgent) this.#channel.flush();
  }
  freed(objectId: string, location: wire.Location.$Shape): void {
    this.#channel.send({ freed: { objectId, location }, kind: 'freed' });
  }
  ready(ready: wire.Ready.$Shape): void {
    this.#channel.send({ ready, kind: 'ready' });
  }
  /** Tells the agent that this process ends because it wants to. */
  exiting(reason: string): void {
    this.#channel.send({ exiting: { reason }, kind: 'exiting' });
    this.#channel.flush(); // the process ends next
  }
  /** Tells the agent that this worker ends later, once nobody borrows its objects. */
  lingering(): void {
    this.#channel.send({ lingering: {}, kind: 'lingering' });
  }
  /** What this worker has run and runs. */
  activity(activity: wire.Activity.$Properties): void {
    this.#channel.send({ activity: activity as wire.Activity.$Shape, kind: 'activity' });
  }
  /** From now on this link does not keep the process from ending. */
  unref(): void {
    this.#channel.unref();
  }
  close(detail: string): void {
    this.#channel.close(detail);
  }

  #request(message: wire.ProcessToAgent.$Shape, expected: Reply): Promise<wire.AgentToProcess> {
    if (this.#channel.isClosed)
      return Promise.reject(new ConnectionError({ address: this.#path, detail: 'the node agent is gone' }));
    const requestId = this.#nextId++;
    const site = siteOf(this.#request);
    return new Promise((resolve, reject) => {
      this.#waiters.set(requestId, {
        reject,
        resolve: (reply) => {
          if (reply.failure) reject(withSite(errorOf(reply.failure), site));
          else if (reply[expected]) resolve(reply);
          else reject(new ConnectionError({ address: this.#path, detail: `the agent answered without "${expected}"` }));
        },
      });
      this.#channel.send({ ...message, requestId });
    });
  }

  #received(message: wire.AgentToProcess, pushes: AgentPushes): void {
    const waiter = this.#waiters.get(message.requestId);
    if (waiter) {
      this.#waiters.delete(message.requestId);
      waiter.resolve(message);
    } else if (message.assign) pushes.assign(message.assign as wire.StartWorker);
    else if (message.exit) pushes.exit(message.exit as wire.Exit);
    else if (message.collect) {
      collectGarbage();
      // Finalizers run behind the collection, in turns of their own.
      setImmediate(() => {
        setImmediate(() => {
          pushes.collect();
          this.#channel.send({ collected: {}, kind: 'collected' });
        });
      });
    } else if (message.tellActivity) pushes.tellActivity();
    else if (message.tellHeld) {
      const { id } = message.tellHeld;
      this.#channel.send({ held: { id, holdings: pushes.holdings() }, kind: 'held' });
    } else if (message.vacated) pushes.vacated(message.vacated as wire.Vacated);
  }
}

/** Collects now, so that refs that nobody holds any more let go of their objects. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
