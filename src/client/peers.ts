// All streams of this process to other processes: its own door, and one link a peer, opened when first needed.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { ConnectionError, type NodeId, type WorkerId } from '../common/index.js';
import { type Channel, connectSocket, FrameStream, SocketChannel, type wire } from '../protocol/index.js';
import { type PeerHost, PeerLink } from './peer-link.js';

export class Peers implements AsyncDisposable {
  readonly #host: PeerHost;
  readonly #token: string;
  readonly #links = new Map<string, PeerLink>(); // by worker id
  readonly #opening = new Map<string, Promise<PeerLink>>();
  readonly #all = new Set<PeerLink>();
  readonly #server: Server;
  readonly #uds: string;
  #isLoose = false;
  #tcp: (AsyncDisposable & { unref(): void }) | null = null;
  #self: wire.WorkerAddress.$Properties = {};

  private constructor(host: PeerHost, token: string, uds: string) {
    this.#host = host;
    this.#token = token;
    this.#uds = uds;
    this.#server = createServer((socket) => this.#accept(new SocketChannel(socket, 'a caller'), token));
  }

  /** Opens this process's door at `uds`, and at `host` over gRPC where the cluster spans machines (host not empty). */
  static async open(
    host: PeerHost,
    at: {
      readonly uds: string;
      readonly host: string;
      readonly token: string;
      readonly workerId: WorkerId;
      readonly nodeId: NodeId;
    },
  ): Promise<Peers> {
    const peers = new Peers(host, at.token, at.uds);
    await new Promise<void>((resolve, reject) => {
      peers.#server.once('error', reject);
      peers.#server.listen(at.uds, () => {
        chmodSync(at.uds, 0o600);
        resolve();
      });
    });
    let tcp = '';
    if (at.host !== '') {
      const { serveGrpc } = await import('../protocol/grpc/index.js');
      const door = await serveGrpc(
        { host: at.host, port: 0, token: at.token },
        { 'CallService.Open': (channel) => peers.#accept(channel, null) },
      );
      peers.#tcp = door;
      tcp = `${at.host}:${door.port}`;
    }
    peers.#self = { workerId: at.workerId, nodeId: at.nodeId, uds: at.uds, tcp };
    return peers;
  }

  /** From now on no stream of this process, nor its door, keeps it from ending. */
  unref(): void {
    this.#isLoose = true;
    this.#server.unref();
    this.#tcp?.unref();
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
    const isLocal = address.nodeId === this.#self.nodeId;
    const where = isLocal ? address.uds : address.tcp;
    if (!where) {
      throw new ConnectionError({
        address: address.workerId ?? '',
        detail: `worker ${address.workerId} on node ${address.nodeId} has no address that this machine can reach`,
      });
    }
    let channel: Channel;
    if (isLocal) channel = await connectSocket(where);
    else {
      const { openGrpc } = await import('../protocol/grpc/index.js');
      channel = openGrpc('CallService.Open', where, this.#token);
    }
    const link = this.#add(channel, address);
    link.start(null, () => {});
    link.stream.greet(this.#self, isLocal ? this.#token : null);
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
    await new Promise((closed) => {
      this.#server.close(closed);
    });
    await this.#tcp?.[Symbol.asyncDispose]();
    rmSync(this.#uds, { force: true });
  }
}
