// All streams of this process to other processes: its own door, and one link a peer, opened when first needed.
import type { NodeId, WorkerId } from '../common/index.js';
import { type Channel, FrameStream, type wire } from '../protocol/index.js';
import type { Accept, PeerDoor } from './peer-door.js';
import { type PeerHost, PeerLink } from './peer-link.js';

export class Peers implements AsyncDisposable {
  readonly #host: PeerHost;
  readonly #links = new Map<string, PeerLink>(); // by worker id
  readonly #opening = new Map<string, Promise<PeerLink>>();
  readonly #all = new Set<PeerLink>();
  #door!: PeerDoor;
  #isLoose = false;
  #self: wire.WorkerAddress.$Properties = {};

  private constructor(host: PeerHost) {
    this.#host = host;
  }

  /** @param openDoor opens this process's door */
  static async open(
    host: PeerHost,
    { workerId, nodeId }: { readonly workerId: WorkerId; readonly nodeId: NodeId },
    openDoor: (accept: Accept) => Promise<PeerDoor>,
  ): Promise<Peers> {
    const peers = new Peers(host);
    const door = await openDoor((channel, token) => peers.#accept(channel, token));
    peers.#door = door;
    peers.#self = { workerId, nodeId, uds: door.uds, tcp: door.tcp };
    return peers;
  }

  /** From now on no stream of this process, nor its door, keeps it from ending. */
  unref(): void {
    this.#isLoose = true;
    this.#door.unref();
    for (const link of this.#all) link.stream.unref();
  }

  /** Where others reach this process. */
  get address(): wire.WorkerAddress.$Properties {
    return this.#self;
  }
  /** A warm worker gets its id when it is assigned. */
  rename(workerId: WorkerId): void {
    this.#self = { ...this.#self, workerId };
  }

  /** The open link to a process, if there is one. */
  linked(workerId: string): PeerLink | null {
    const link = this.#links.get(workerId);
    return link && !link.stream.isClosed ? link : null;
  }

  /** The link to a process, opened if need be. Rejects with {@link ConnectionError}. */
  link(address: wire.WorkerAddress.$Properties): Promise<PeerLink> {
    const id = address.workerId ?? '';
    const open = this.linked(id);
    if (open) return Promise.resolve(open);
    const opening = this.#opening.get(id) ?? this.#open(address).finally(() => this.#opening.delete(id));
    this.#opening.set(id, opening);
    return opening;
  }

  async #open(address: wire.WorkerAddress.$Properties): Promise<PeerLink> {
    const { channel, token } = await this.#door.dial(address);
    const link = this.#add(channel, address);
    link.start(null, () => {});
    link.stream.greet(this.#self, token);
    this.#known(link);
    return link;
  }

  #accept(channel: Channel, token: string | null): void {
    const link = this.#add(channel, {});
    link.start(token, () => {
      link.stream.greet(this.#self, null);
      this.#known(link);
    });
  }

  #add(channel: Channel, peer: wire.WorkerAddress.$Properties): PeerLink {
    const link = new PeerLink(new FrameStream(channel), peer, this.#host);
    this.#all.add(link);
    if (this.#isLoose) channel.unref();
    channel.onClose(() => {
      this.#all.delete(link);
      const id = link.peer.workerId ?? '';
      if (this.#links.get(id) === link) this.#links.delete(id);
    });
    return link;
  }
  #known(link: PeerLink): void {
    const id = link.peer.workerId ?? '';
    if (!this.linked(id)) this.#links.set(id, link);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#all) link.stream.close('this process ends');
    await this.#door[Symbol.asyncDispose]();
  }
}
