// Frames on a gRPC stream: one frame a message. The messages are bytes to gRPC; who reads them decodes them.
import { type ClientDuplexStream, type ServerDuplexStream, status } from '@grpc/grpc-js';
import { ConnectionError, type RayliteError } from '../../common/index.js';
import { FRAME_BYTES_MAX, QUEUED_BYTES_MAX } from '../channel.js';
import { ChannelBase } from '../channel-base.js';
import { explainHandshake } from '../tls/index.js';
import type { LooseSockets } from './loose-sockets.js';

type Stream = ClientDuplexStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

/** What a status of gRPC means to a user of raylite. */
function explain(code: number, details: string): string {
  switch (code) {
    case status.UNAUTHENTICATED:
      return `${details}. Give the token of this cluster: the one in the join command that "raylite start --head" printed`;
    case status.UNAVAILABLE:
      return (
        explainHandshake(details) ??
        `nothing answers there (${reasonIn(details)}). Is the cluster running, and is the address right?`
      );
    case status.RESOURCE_EXHAUSTED:
      return `a frame is larger than the limit of ${FRAME_BYTES_MAX} bytes (${details})`;
    default:
      return details;
  }
}

/** gRPC says "No connection established. Last error: Error: connect ECONNREFUSED …. Resolution note: ". */
const reasonIn = (details: string): string =>
  /Last error: (?:Error: )?(.+?)\. Resolution note/.exec(details)?.[1] ?? details;

export class GrpcChannel extends ChannelBase {
  readonly #stream: Stream;
  readonly #sockets: LooseSockets | null;
  #queuedBytes = 0;
  #isWaitingForDrain = false;

  /** @param sockets of the connection that this stream has to itself: grpc-js holds a process while a stream is open */
  constructor(stream: Stream, peer: string, sockets: LooseSockets | null = null) {
    super(peer);
    this.#stream = stream;
    this.#sockets = sockets;
    stream.on('data', (frame: Buffer) => this.deliver(frame));
    stream.on('error', (cause: Error & { code?: number; details?: string }) => {
      if (cause.code === status.CANCELLED) this.ended({ error: null, detail: 'the peer closed the connection' });
      else this.fail(explain(cause.code ?? -1, cause.details ?? cause.message), cause);
    });
    const gone = (): void => this.ended({ error: null, detail: 'the peer closed the connection' });
    stream.on('end', () => {
      stream.end();
      gone();
    });
    stream.on('close', gone);
    stream.on('cancelled', gone);
  }

  get isCongested(): boolean {
    return this.#queuedBytes > QUEUED_BYTES_MAX;
  }

  send(frame: Uint8Array): void {
    if (this.isClosed) return;
    if (frame.byteLength > FRAME_BYTES_MAX) {
      throw new ConnectionError({
        address: this.peer,
        detail: `a frame of ${frame.byteLength} bytes is larger than the limit of ${FRAME_BYTES_MAX}; put large values into the object store`,
      });
    }
    const bytes = frame as Buffer;
    this.#queuedBytes += bytes.byteLength;
    this.#stream.write(bytes, () => {
      this.#queuedBytes -= bytes.byteLength;
      if (this.#isWaitingForDrain && !this.isCongested) {
        this.#isWaitingForDrain = false;
        this.drained();
      }
    });
    if (this.isCongested) this.#isWaitingForDrain = true;
  }

  unref(): void {
    this.#sockets?.unref();
  }

  protected end(error: RayliteError | null): void {
    if ('cancel' in this.#stream && error) this.#stream.cancel();
    else this.#stream.end();
  }
}
