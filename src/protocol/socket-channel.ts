// Frames on a stream socket: a 4-byte little-endian length, then the frame.
import { connect, type Socket } from 'node:net';
import { ConnectionError } from '../common/index.js';
import { FRAME_BYTES_MAX, QUEUED_BYTES_MAX } from './channel.js';
import { ChannelBase } from './channel-base.js';

const HEADER_BYTES = 4;
const COPY_BYTES_MAX = 16 * 1024; // below this one copied write is cheaper than a gathered one

export class SocketChannel extends ChannelBase {
  readonly #socket: Socket;
  #pending: Buffer | null = null; // the start of a frame that has not wholly come

  constructor(socket: Socket, peer: string) {
    super(peer);
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('drain', () => this.drained());
    socket.on('error', (cause: NodeJS.ErrnoException) => this.fail(cause.code ?? cause.message, cause));
    socket.on('end', () => {
      if (this.#pending) this.fail('the peer ended in the middle of a frame');
    });
    socket.on('close', () => this.ended({ error: null, detail: 'the peer closed the connection' }));
  }

  get isCongested(): boolean {
    return this.#socket.writableLength > QUEUED_BYTES_MAX;
  }

  send(frame: Uint8Array): void {
    if (this.isClosed) return;
    const length = frame.byteLength;
    if (length > FRAME_BYTES_MAX) throw tooLarge(this.peer, length);
    if (length <= COPY_BYTES_MAX) {
      const whole = Buffer.allocUnsafe(HEADER_BYTES + length);
      whole.writeUInt32LE(length, 0);
      whole.set(frame, HEADER_BYTES);
      this.#socket.write(whole);
      return;
    }
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header.writeUInt32LE(length, 0);
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(frame);
    this.#socket.uncork();
  }

  unref(): void {
    this.#socket.unref();
  }

  protected end(error: Error | null): void {
    if (error) this.#socket.destroy();
    else this.#socket.end(() => this.#socket.destroySoon());
  }

  #read(chunk: Buffer): void {
    const bytes = this.#pending ? Buffer.concat([this.#pending, chunk]) : chunk;
    this.#pending = null;
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const length = bytes.readUInt32LE(at);
      if (length > FRAME_BYTES_MAX) {
        this.fail('a frame is larger than allowed', tooLarge(this.peer, length));
        return;
      }
      const end = at + HEADER_BYTES + length;
      if (end > bytes.length) {
        this.#expect(bytes, at, end - at);
        return;
      }
      this.deliver(bytes.subarray(at + HEADER_BYTES, end));
      if (this.isClosed) return;
      at = end;
    }
    if (at < bytes.length) this.#pending = bytes.subarray(at);
  }

  /** Keeps the start of a frame of `total` bytes and gathers the rest once, whatever the number of chunks. */
  #expect(bytes: Buffer, at: number, total: number): void {
    const have = bytes.length - at;
    if (total - have <= COPY_BYTES_MAX) {
      this.#pending = bytes.subarray(at);
      return;
    }
    const gathered = [bytes.subarray(at)];
    let gatheredBytes = have;
    this.#socket.removeAllListeners('data');
    const gather = (chunk: Buffer): void => {
      gathered.push(chunk);
      gatheredBytes += chunk.length;
      if (gatheredBytes < total) return;
      this.#socket.off('data', gather);
      this.#socket.on('data', (next: Buffer) => this.#read(next));
      this.#read(Buffer.concat(gathered, gatheredBytes));
    };
    this.#pending = null;
    this.#socket.on('data', gather);
  }
}

const tooLarge = (peer: string, bytes: number): ConnectionError =>
  new ConnectionError({
    address: peer,
    detail: `a frame of ${bytes} bytes is larger than the limit of ${FRAME_BYTES_MAX}; put large values into the object store`,
  });

/** Connects to the Unix socket at `path`. Rejects with {@link ConnectionError}. */
export function connectSocket(path: string): Promise<SocketChannel> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const onError = (cause: NodeJS.ErrnoException): void =>
      reject(new ConnectionError({ address: path, detail: `nothing answers (${cause.code})` }, { cause }));
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve(new SocketChannel(socket, path));
    });
  });
}
