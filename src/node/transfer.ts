// Objects between nodes: raw TCP, one request a connection, from arena to arena. See proto/node.proto for the layout.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { ConnectionError, type ObjectId, ObjectLostError } from '../common/index.js';
import type { NativeArena } from '../native/index.js';
import { errorOf, failureOf, isSameToken, wire } from '../protocol/index.js';

const CHUNK_BYTES = 4 * 1024 * 1024;
const HEADER_BYTES_MAX = 64 * 1024;
const IDLE_MS_MAX = 60_000;
const UNSEALED_ATTEMPTS = 20;
const UNSEALED_MS = 25;

/** An object that is being given away. */
export interface TransferRead {
  readonly size: number;
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
    const transfer = new TransferServer(server);
    server.on('connection', (socket) => {
      transfer.#sockets.add(socket);
      socket.on('close', () => transfer.#sockets.delete(socket));
      socket.on('error', () => {}); // the puller is gone, or asks again
      socket.setTimeout(IDLE_MS_MAX, () => socket.destroy());
      readHeader(socket, (bytes) => serve(socket, bytes, token, source));
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

function serve(socket: Socket, bytes: Buffer, token: string, source: TransferSource): void {
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
  answer(socket, objectId, source).then(
    () => socket.end(),
    () => socket.destroy(), // the puller hears of it by the end of the connection
  );
}

async function answer(socket: Socket, objectId: ObjectId, source: TransferSource): Promise<void> {
  const object = await whenSealed(() => source.open(objectId));
  if (object) {
    await send(socket, object);
    return;
  }
  const error = new ObjectLostError({ objectId, detail: 'the node that held it has no copy any more' });
  socket.write(framed(wire.TransferReply.encode({ failure: failureOf(error) }).finish()));
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

/** Sends an object in chunks, as fast as the socket takes them. */
async function send(socket: Socket, object: TransferRead): Promise<void> {
  const over = new AbortController();
  socket.once('close', () => over.abort());
  try {
    socket.write(framed(wire.TransferReply.encode({ size: object.size }).finish()));
    for (let at = 0; at < object.size && !socket.destroyed; ) {
      const chunk = await object.read(at, Math.min(CHUNK_BYTES, object.size - at));
      const header = Buffer.alloc(8);
      header.writeUInt32LE(chunk.length, 0);
      header.writeUInt32LE(crc32(chunk), 4);
      at += chunk.length;
      socket.write(header);
      if (!socket.write(chunk)) await once(socket, 'drain', { signal: over.signal });
    }
  } finally {
    object.close();
  }
}

/**
 * Fetches an object from the node that holds it into the region that `allocate` gives for its size. Rejects with
 * ObjectLostError when it is not there, and ConnectionError when it cannot be reached or the bytes came damaged.
 */
export function pullObject(
  from: wire.Location.$Properties,
  objectId: ObjectId,
  token: string,
  arena: NativeArena,
  allocate: (size: number) => Promise<{ readonly offset: number }>,
): Promise<{ readonly offset: number; readonly size: number }> {
  const address = from.transfer ?? '';
  return new Promise((resolve, reject) => {
    const socket = open(address);
    const fail = (detail: string, cause?: unknown): void => {
      socket.destroy();
      reject(cause instanceof ObjectLostError ? cause : new ConnectionError({ address, detail }, { cause }));
    };
    socket.setTimeout(IDLE_MS_MAX, () => fail('the other node does not answer'));
    socket.on('error', (cause: NodeJS.ErrnoException) =>
      fail(`the other node cannot be reached: ${cause.code}`, cause),
    );
    socket.on('end', () => fail('the other node ended the transfer before its end'));
    socket.write(framed(wire.TransferRequest.encode({ token, objectId, location: from }).finish()));
    readHeader(socket, (bytes, rest) => {
      const reply = wire.TransferReply.decode(bytes);
      if (reply.failure) {
        const error = errorOf(reply.failure);
        fail(error.message, error);
        return;
      }
      const { size } = reply;
      socket.pause(); // until there is room
      allocate(size).then(
        ({ offset }) => {
          const receive = receiver(arena, offset, size, () => {
            socket.destroy();
            resolve({ offset, size });
          });
          const onData = (chunk: Buffer): void => {
            try {
              receive(chunk);
            } catch (cause) {
              fail('the bytes came damaged', cause);
            }
          };
          socket.on('data', onData);
          if (rest.length > 0) onData(rest);
          socket.resume();
        },
        (error: unknown) => {
          socket.destroy();
          reject(error);
        },
      );
    });
  });
}

/** Writes chunks to the arena as they come and checks each when it is whole. */
function receiver(arena: NativeArena, offset: number, size: number, done: () => void): (bytes: Buffer) => void {
  let header = Buffer.alloc(0);
  let at = 0;
  let chunkEnd = 0;
  let chunkStart = 0;
  let expected = 0;
  return (bytes) => {
    let rest = bytes;
    while (rest.length > 0) {
      if (at === chunkEnd) {
        const take = Math.min(8 - header.length, rest.length);
        header = Buffer.concat([header, rest.subarray(0, take)]);
        rest = rest.subarray(take);
        if (header.length < 8) return;
        chunkStart = at;
        chunkEnd = at + header.readUInt32LE(0);
        expected = header.readUInt32LE(4);
        header = Buffer.alloc(0);
        if (chunkEnd > size || chunkEnd === chunkStart) throw new RangeError('a chunk is longer than the object');
      }
      const piece = rest.subarray(0, chunkEnd - at);
      arena.write(offset + at, [piece]);
      at += piece.length;
      rest = rest.subarray(piece.length);
      if (at === chunkEnd && arena.crc32(offset + chunkStart, chunkEnd - chunkStart) !== expected)
        throw new RangeError(`the checksum of bytes ${chunkStart} to ${chunkEnd} is wrong`);
      if (at === size) done();
    }
  };
}

/** Tells the node that holds an object that its owner has let go of it. */
export function tellFreed(address: string, objectId: ObjectId, token: string): void {
  const socket = open(address);
  socket.on('error', () => {}); // the node is gone, and the object with it
  socket.end(framed(wire.TransferRequest.encode({ token, objectId, isFree: true }).finish()));
}

function open(address: string): Socket {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return connect({ host, port: Number(address.slice(colon + 1)), noDelay: true });
}

const framed = (bytes: Uint8Array): Buffer => {
  const header = Buffer.alloc(4);
  header.writeUInt32LE(bytes.length, 0);
  return Buffer.concat([header, bytes]);
};

/** Calls `onHeader` with the first frame and what came behind it; a longer one than allowed ends the connection. */
function readHeader(socket: Socket, onHeader: (bytes: Buffer, rest: Buffer) => void): void {
  let have = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    have = Buffer.concat([have, chunk]);
    if (have.length < 4) return;
    const length = have.readUInt32LE(0);
    if (length > HEADER_BYTES_MAX) {
      socket.destroy(new RangeError('a header is larger than allowed'));
      return;
    }
    if (have.length < 4 + length) return;
    socket.off('data', onData);
    try {
      onHeader(have.subarray(4, 4 + length), have.subarray(4 + length));
    } catch (cause) {
      socket.destroy(new RangeError('a header could not be understood', { cause }));
    }
  };
  socket.on('data', onData);
}
