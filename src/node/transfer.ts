// The node's door for objects that other nodes want: raw TCP, one request a connection. See proto/node.proto for the layout.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ObjectId, ObjectLostError } from '../common/index.js';
import { native } from '../native/index.js';
import { failureOf, isSameToken, wire } from '../protocol/index.js';
import { secureDoor, tlsOf } from '../protocol/tls/index.js';
import { Readers } from './readers.js';
import { framed, IDLE_MS_MAX, readHeader } from './transfer-frames.js';

const CHUNK_BYTES = 4 * 1024 * 1024;
const UNSEALED_ATTEMPTS = 20;
const UNSEALED_MS = 25;

/** An object that is being given away. */
export interface TransferRead {
  /** Comes late where the object itself is on its way here. */
  readonly size: number | Promise<number>;
  /** Bytes [from, from + length) of it. */
  read(from: number, length: number): Promise<Uint8Array>;
  close(): void;
}

/** What the server may give away, and is told. */
export interface TransferSource {
  open(objectId: ObjectId): TransferRead | null;
  freed(objectId: ObjectId): void;
}

export class TransferServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(host: string, token: string, source: TransferSource): Promise<TransferServer> {
    const server = createServer();
    const readers = new Readers();
    const transfer = new TransferServer(server);
    const accept = (socket: Socket): void => {
      socket.on('error', () => {}); // the puller is gone, or asks again
      socket.setTimeout(IDLE_MS_MAX, () => socket.destroy());
      readHeader(socket, (bytes) => serve(socket, bytes, token, source, readers));
    };
    const tls = tlsOf(host, token);
    const door = tls ? secureDoor(tls, { secure: accept, plain: (socket) => socket.destroy() }) : accept;
    server.on('connection', (socket) => {
      transfer.#sockets.add(socket);
      socket.on('close', () => transfer.#sockets.delete(socket));
      door(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, host, resolve);
    });
    return transfer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((closed) => {
      this.#server.close(closed);
    });
  }
}

function serve(socket: Socket, bytes: Buffer, token: string, source: TransferSource, readers: Readers): void {
  const request = wire.TransferRequest.decode(bytes);
  if (!isSameToken(request.token, token)) {
    socket.destroy();
    return;
  }
  const objectId = request.objectId as ObjectId;
  if (request.isFree) {
    source.freed(objectId);
    socket.end();
    return;
  }
  const { door, isDirect } = request;
  const elsewhere = isDirect ? null : readers.elsewhere(objectId, door);
  if (elsewhere !== null) {
    socket.end(framed(wire.TransferReply.encode({ ask: elsewhere }).finish()));
    return;
  }
  readers.begin(objectId, door);
  answer(socket, objectId, request.start, source).then(
    (isWhole) => {
      readers.end(objectId, door, isWhole);
      socket.end();
    },
    () => {
      readers.end(objectId, door, false);
      socket.destroy(); // the puller hears of it by the end of the connection
    },
  );
}

/** Resolves to whether the object was there and all of it was sent. */
async function answer(socket: Socket, objectId: ObjectId, start: number, source: TransferSource): Promise<boolean> {
  const object = await whenSealed(() => source.open(objectId));
  try {
    if (!object) throw new ObjectLostError({ objectId, detail: 'the node that held it has no copy any more' });
    const size = await object.size;
    socket.write(framed(wire.TransferReply.encode({ size, start }).finish()));
    return await send(socket, object, size, start);
  } catch (error) {
    if (!(error instanceof ObjectLostError)) throw error;
    socket.write(framed(wire.TransferReply.encode({ failure: failureOf(error) }).finish()));
    return false;
  } finally {
    object?.close();
  }
}

/**
 * What `find` finds, also when it is asked a little too early: the note that an object was sealed comes on another way than
 * the question for it, so that it may be on its way.
 */
export async function whenSealed<T>(find: () => T | null): Promise<T | null> {
  for (let attempt = 0; attempt < UNSEALED_ATTEMPTS; attempt += 1) {
    const found = find();
    if (found) return found;
    await sleep(UNSEALED_MS);
  }
  return find();
}

/** Sends an object from `start` on in chunks, as fast as the socket takes them. */
async function send(socket: Socket, object: TransferRead, size: number, start: number): Promise<boolean> {
  const over = new AbortController();
  socket.once('close', () => over.abort());
  for (let at = start; at < size && !socket.destroyed; ) {
    const chunk = await object.read(at, Math.min(CHUNK_BYTES, size - at));
    const header = Buffer.alloc(8);
    header.writeUInt32LE(chunk.length, 0);
    header.writeUInt32LE(native().crc32(chunk), 4);
    at += chunk.length;
    socket.write(header);
    if (!socket.write(chunk)) await once(socket, 'drain', { signal: over.signal });
  }
  return !socket.destroyed;
}
