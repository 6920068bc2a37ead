// Typed messages on a channel, decoded at the door. What is sent without a break goes as one frame (each message behind its
// length, 4 bytes little-endian), since a frame costs more than a message.
import { ConnectionError } from '../common/index.js';
import type { Channel, CloseReason } from './channel.js';
import { type Faults, faults } from './faults.js';

/** What a channel needs of a generated message class. */
export interface Codec<Sent, Decoded> {
  readonly name: string;
  encode(message: Sent): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Decoded;
}

const HEADER_BYTES = 4;
/** A frame of several messages grows no further; a larger message goes alone. */
const TOGETHER_BYTES_MAX = 64 * 1024;

export class MessageChannel<Sent, Received> {
  readonly #channel: Channel;
  #together: Uint8Array[] = [];
  #togetherBytes = 0;
  #held: Uint8Array[] | null = null; // behind a message that a test delays
  readonly #out: Pick<Codec<Sent, unknown>, 'encode' | 'name'>;
  readonly #in: Pick<Codec<never, Received>, 'decode'>;

  constructor(
    channel: Channel,
    out: Pick<Codec<Sent, unknown>, 'encode' | 'name'>,
    into: Pick<Codec<never, Received>, 'decode'>,
  ) {
    this.#channel = channel;
    this.#out = out;
    this.#in = into;
  }

  send(message: Sent): void {
    if (this.#channel.isClosed) return;
    const bytes = this.#out.encode(message).finish();
    if (faults) this.#sendFaulty(message, bytes, faults);
    else this.#queue(bytes);
  }
  /** Sets who receives. Bytes that are no such message, or a receiver that throws, close the channel with a typed error. */
  receive(onMessage: (message: Received) => void): void {
    this.#channel.receive((frame) => {
      const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
      for (let at = 0; at < frame.byteLength; ) {
        const start = at + HEADER_BYTES;
        at = start + view.getUint32(at, true);
        if (at > frame.byteLength) throw new RangeError('a message is longer than its frame');
        onMessage(this.#in.decode(frame.subarray(start, at)));
      }
    });
  }
  onClose(listener: (reason: CloseReason) => void): void {
    this.#channel.onClose(listener);
  }
  get isClosed(): boolean {
    return this.#channel.isClosed;
  }
  get isCongested(): boolean {
    return this.#channel.isCongested;
  }
  onDrain(listener: () => void): void {
    this.#channel.onDrain(listener);
  }
  unref(): void {
    this.#channel.unref();
  }
  #queue(bytes: Uint8Array): void {
    if (bytes.byteLength > TOGETHER_BYTES_MAX) {
      this.#flush();
      this.#channel.send(framed([bytes])); // throws at the sender if it is too large
      return;
    }
    if (this.#together.length === 0) queueMicrotask(this.#flush);
    this.#together.push(bytes);
    this.#togetherBytes += bytes.byteLength;
    if (this.#togetherBytes > TOGETHER_BYTES_MAX) this.#flush();
  }
  /** Sends now what waits for more to go with it: where this process is about to end. */
  flush(): void {
    this.#flush();
  }
  readonly #flush = (): void => {
    const messages = this.#together;
    if (messages.length === 0) return;
    this.#together = [];
    this.#togetherBytes = 0;
    if (!this.#channel.isClosed) this.#channel.send(framed(messages));
  };

  #sendFaulty(message: Sent, bytes: Uint8Array, faulty: Faults): void {
    const field = Object.keys(message as object).find((key) => key !== 'requestId' && key !== 'kind') ?? '';
    const method = `${this.#out.name}.${field}`;
    const next = this.#held ? null : faulty.next(method);
    const frame = framed([bytes]);
    if (next?.fault === 'requestLost') {
      const detail = `a fault of the test: ${method} was lost`;
      this.#channel.close(detail, new ConnectionError({ address: 'a test', detail }));
    } else if (next?.fault === 'delayed' || this.#held) {
      // What follows must not pass it.
      this.#held ??= [];
      this.#held.push(frame);
      if (next) setTimeout(() => this.#release(), next.delayMs);
    } else {
      this.#channel.send(frame);
      if (next?.fault === 'doubled') this.#channel.send(frame);
      if (next?.fault === 'replyLost') this.#channel.close(`a fault of the test: the reply to ${method} was lost`);
    }
  }
  #release(): void {
    for (const frame of this.#held ?? []) this.#channel.send(frame);
    this.#held = null;
  }

  close(detail: string): void {
    this.#flush();
    this.#channel.close(detail);
  }
}

function framed(messages: readonly Uint8Array[]): Uint8Array {
  const total = messages.reduce((sum, { byteLength }) => sum + HEADER_BYTES + byteLength, 0);
  const frame = Buffer.allocUnsafe(total);
  let at = 0;
  for (const message of messages) {
    at = frame.writeUInt32LE(message.byteLength, at);
    frame.set(message, at);
    at += message.byteLength;
  }
  return frame;
}
