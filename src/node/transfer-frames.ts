// What both ends of a transfer between nodes share: its connection and the frames at its beginning.
import { connect, type Socket } from 'node:net';
import { connect as connectSecure } from 'node:tls';
import { clientOptions, hostOf, tlsOf } from '../protocol/tls/index.js';

const HEADER_BYTES_MAX = 64 * 1024;
/** A connection on which nothing moves for so long is broken. */
export const IDLE_MS_MAX = 60_000;

/** Connects to the transfer door of a node, "host:port". */
export function openDoor(address: string, token: string): Socket {
  const host = hostOf(address);
  const at = { host, port: Number(address.slice(address.lastIndexOf(':') + 1)) };
  const tls = tlsOf(host, token);
  if (!tls) return connect({ ...at, noDelay: true });
  return connectSecure({ ...at, ...clientOptions(host, tls) }).setNoDelay();
}

/** Bytes behind their length. */
export const framed = (bytes: Uint8Array): Buffer => {
  const header = Buffer.alloc(4);
  header.writeUInt32LE(bytes.length, 0);
  return Buffer.concat([header, bytes]);
};

/** Calls `onHeader` with the first frame and what came behind it; a longer one than allowed ends the connection. */
export function readHeader(socket: Socket, onHeader: (bytes: Buffer, rest: Buffer) => void): void {
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
