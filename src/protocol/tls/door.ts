// Doors that speak TLS. The first byte of a connection says whether its client does: who does not can be told so.
import type { Socket } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import type { TlsIdentity } from './identity.js';

const HANDSHAKE_RECORD = 0x16; // the first byte of TLS
const FIRST_BYTE_MS_MAX = 10_000;

export interface Entrances {
  readonly secure: (socket: TLSSocket) => void;
  /** A client that does not speak TLS. */
  readonly plain: (socket: Socket) => void;
  readonly alpn?: readonly string[];
}

/** Takes connections that a listening socket accepted. */
export function secureDoor(tls: TlsIdentity, { secure, plain, alpn }: Entrances): (socket: Socket) => void {
  const { cert, key, minVersion } = tls;
  const server = createServer({ cert, key, minVersion, ...(alpn ? { ALPNProtocols: [...alpn] } : {}) });
  server.on('secureConnection', secure);
  server.on('tlsClientError', (_error, socket) => socket.destroy()); // it says by itself what it did not like
  return (socket) => {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(FIRST_BYTE_MS_MAX, () => socket.destroy());
    socket.once('data', (first: Buffer) => {
      socket.setTimeout(0);
      socket.pause();
      socket.unshift(first);
      if (first[0] === HANDSHAKE_RECORD) server.emit('connection', socket);
      else plain(socket);
      process.nextTick(() => socket.resume());
    });
  };
}
