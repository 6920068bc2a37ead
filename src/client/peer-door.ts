// Where the peers of a process reach it, and how it reaches them: a Unix socket on one machine, gRPC between machines.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { ConnectionError, type NodeId } from '../common/index.js';
import { type Channel, connectSocket, SocketChannel, type wire } from '../protocol/index.js';

/** Takes a stream that a peer opened; `token` is what its greeting must carry (null: the carrier has checked it). */
export type Accept = (channel: Channel, token: string | null) => void;

export interface PeerDoor extends AsyncDisposable {
  readonly uds: string;
  readonly tcp: string;
  /** Opens a stream to a peer's door; `token` is what our greeting carries. Rejects with {@link ConnectionError}. */
  dial(address: wire.WorkerAddress.$Properties): Promise<{ readonly channel: Channel; readonly token: string | null }>;
  /** From now on the door does not keep this process from ending. */
  unref(): void;
}

export class SocketDoor implements PeerDoor {
  readonly uds: string;
  tcp = '';
  readonly #nodeId: NodeId;
  readonly #token: string;
  readonly #server: Server;
  #grpc: (AsyncDisposable & { unref(): void }) | null = null;

  private constructor(at: { readonly uds: string; readonly token: string; readonly nodeId: NodeId }, accept: Accept) {
    this.uds = at.uds;
    this.#token = at.token;
    this.#nodeId = at.nodeId;
    this.#server = createServer((socket) => accept(new SocketChannel(socket, 'a caller'), at.token));
  }

  /** Opens the door at `uds`, and at `host` over gRPC where the cluster spans machines (host not empty). */
  static async open(
    at: { readonly uds: string; readonly host: string; readonly token: string; readonly nodeId: NodeId },
    accept: Accept,
  ): Promise<SocketDoor> {
    const door = new SocketDoor(at, accept);
    await new Promise<void>((resolve, reject) => {
      door.#server.once('error', reject);
      door.#server.listen(at.uds, () => {
        chmodSync(at.uds, 0o600);
        resolve();
      });
    });
    if (at.host !== '') {
      const { serveGrpc } = await import('../protocol/grpc/index.js');
      const grpc = await serveGrpc(
        { host: at.host, port: 0, token: at.token },
        { 'CallService.Open': (channel) => accept(channel, null) },
      );
      door.#grpc = grpc;
      door.tcp = `${at.host}:${grpc.port}`;
    }
    return door;
  }

  async dial(
    address: wire.WorkerAddress.$Properties,
  ): Promise<{ readonly channel: Channel; readonly token: string | null }> {
    const isLocal = address.nodeId === this.#nodeId;
    const where = isLocal ? address.uds : address.tcp;
    if (!where) {
      throw new ConnectionError({
        address: address.workerId ?? '',
        detail: `worker ${address.workerId} on node ${address.nodeId} has no address that this machine can reach`,
      });
    }
    if (isLocal) return { channel: await connectSocket(where), token: this.#token };
    const { openGrpc } = await import('../protocol/grpc/index.js');
    return { channel: openGrpc('CallService.Open', where, this.#token), token: null };
  }

  unref(): void {
    this.#server.unref();
    this.#grpc?.unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((closed) => {
      this.#server.close(closed);
    });
    await this.#grpc?.[Symbol.asyncDispose]();
    rmSync(this.uds, { force: true });
  }
}
