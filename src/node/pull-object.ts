// Objects from other nodes: straight into the arena, each chunk checked; a transfer that breaks goes on behind its last good chunk.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError, type ObjectId, ObjectLostError } from '../common/index.js';
import type { NativeArena } from '../native/index.js';
import { errorOf, wire } from '../protocol/index.js';
import { explainHandshake } from '../protocol/tls/index.js';
import { framed, IDLE_MS_MAX, openDoor, readHeader } from './transfer-frames.js';

/** How often in a row a transfer that had begun is taken up again without getting any further. */
const FRUITLESS_MAX = 3;
const PAUSE_MS = 100;

/** How often in a row a puller lets itself be sent on. */
const HOPS_MAX = 16;

export interface PullOptions {
  readonly token: string;
  /** host:port where this node gives the object on as it comes; empty: nowhere. */
  readonly door: string;
  readonly arena: NativeArena;
  readonly allocate: (size: number) => Promise<{ readonly offset: number }>;
  /** Hears how many bytes are here and right, from the start. */
  readonly arrived: (goodBytes: number) => void;
}

/** What is wanted, and how much of it is here. */
interface Pull extends PullOptions {
  readonly objectId: ObjectId;
  place: { readonly offset: number; readonly size: number } | null;
  /** Bytes whose checksums were right, from the start. */
  goodBytes: number;
}

/**
 * Fetches an object from the node that holds it, or one that this node names, into the region that `allocate` gives for its
 * size. Rejects with ObjectLostError when it is not there, and ConnectionError when it cannot be reached or the bytes keep
 * coming damaged.
 */
export async function pullObject(
  from: wire.Location.$Properties,
  objectId: ObjectId,
  options: PullOptions,
): Promise<{ readonly offset: number; readonly size: number }> {
  const pull: Pull = { ...options, objectId, place: null, goodBytes: 0 };
  const origin = from.transfer ?? '';
  let address = origin;
  let isDirect = false;
  let hops = 0;
  for (let fruitless = 0; ; ) {
    const before = pull.goodBytes;
    try {
      const answer = await attempt(pull, address, isDirect);
      if ('size' in answer) return answer;
      hops += 1;
      isDirect = hops > HOPS_MAX;
      address = isDirect ? origin : answer.ask;
      continue;
    } catch (error) {
      const mayComeElsewhere = error instanceof ConnectionError || error instanceof ObjectLostError;
      const isAway = address !== origin;
      // Asked directly, so that no two nodes ever wait for each other.
      address = origin;
      isDirect = true;
      if (mayComeElsewhere && isAway) continue;
      fruitless = pull.goodBytes > before ? 0 : fruitless + 1;
      if (!(error instanceof ConnectionError) || pull.goodBytes === 0 || fruitless > FRUITLESS_MAX) throw error;
    }
    await sleep(PAUSE_MS);
  }
}

function attempt(
  pull: Pull,
  address: string,
  isDirect: boolean,
): Promise<{ readonly offset: number; readonly size: number } | { readonly ask: string }> {
  const { objectId, token, door } = pull;
  return new Promise((resolve, reject) => {
    const socket = openDoor(address, token);
    const fail = (detail: string, cause?: unknown): void => {
      socket.destroy();
      reject(cause instanceof ObjectLostError ? cause : new ConnectionError({ address, detail }, { cause }));
    };
    socket.setTimeout(IDLE_MS_MAX, () => fail('the other node does not answer'));
    socket.on('error', (cause: NodeJS.ErrnoException) =>
      fail(explainHandshake(cause.message) ?? `the other node cannot be reached: ${cause.code}`, cause),
    );
    socket.on('end', () => fail('the other node ended the transfer before its end'));
    socket.write(
      framed(wire.TransferRequest.encode({ token, objectId, start: pull.goodBytes, door, isDirect }).finish()),
    );
    readHeader(socket, (bytes, rest) => {
      const reply = wire.TransferReply.decode(bytes);
      if (reply.failure) {
        const error = errorOf(reply.failure);
        fail(error.message, error);
        return;
      }
      if (reply.ask !== '') {
        socket.destroy();
        resolve({ ask: reply.ask });
        return;
      }
      const { size } = reply;
      if (pull.place && (size !== pull.place.size || reply.start !== pull.goodBytes)) {
        fail(
          `the other node offers ${size} bytes from ${reply.start} on, not ${pull.place.size} from ${pull.goodBytes}`,
        );
        return;
      }
      socket.pause(); // until there is room
      placeOf(pull, size).then(
        (place) => {
          if (socket.destroyed) return; // it broke meanwhile
          const receive = receiver(pull, place, () => {
            socket.destroy();
            resolve(place);
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

/** The region for the object; asked for once, whatever breaks. */
async function placeOf(pull: Pull, size: number): Promise<{ readonly offset: number; readonly size: number }> {
  const place = pull.place ?? { offset: (await pull.allocate(size)).offset, size };
  pull.place = place;
  return place;
}

/** Writes chunks to the arena as they come and checks each when it is whole. */
function receiver(
  pull: Pull,
  { offset, size }: { readonly offset: number; readonly size: number },
  done: () => void,
): (bytes: Buffer) => void {
  const { arena } = pull;
  let header = Buffer.alloc(0);
  let at = pull.goodBytes;
  let chunkEnd = at;
  let chunkStart = at;
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
      if (at < chunkEnd) continue;
      if (arena.crc32(offset + chunkStart, chunkEnd - chunkStart) !== expected)
        throw new RangeError(`the checksum of bytes ${chunkStart} to ${chunkEnd} is wrong`);
      pull.goodBytes = at;
      pull.arrived(at);
      if (at === size) done();
    }
  };
}

/** Tells the node that holds an object that its owner has let go of it. */
export function tellFreed(address: string, objectId: ObjectId, token: string): void {
  const socket = openDoor(address, token);
  socket.on('error', () => {}); // the node is gone, and the object with it
  socket.end(framed(wire.TransferRequest.encode({ token, objectId, isFree: true }).finish()));
}
