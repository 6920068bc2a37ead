// Typed messages on a channel: one message a frame, decoded at the door.
import type { Channel, CloseReason } from './channel.js';

/** The two functions of a generated message class that a channel needs. */
export interface Codec<Sent, Decoded> {
  encode(message: Sent): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Decoded;
}

export class MessageChannel<Sent, Received> {
  readonly #channel: Channel;
  readonly #out: Pick<Codec<Sent, unknown>, 'encode'>;
  readonly #in: Pick<Codec<never, Received>, 'decode'>;

  constructor(
    channel: Channel,
    out: Pick<Codec<Sent, unknown>, 'encode'>,
    into: Pick<Codec<never, Received>, 'decode'>,
  ) {
    this.#channel = channel;
    this.#out = out;
    this.#in = into;
  }

  send(message: Sent): void {
    if (!this.#channel.isClosed) this.#channel.send(this.#out.encode(message).finish());
  }
  /** Sets who receives. Bytes that are no such message, or a receiver that throws, close the channel with a typed error. */
  receive(onMessage: (message: Received) => void): void {
    this.#channel.receive((frame) => onMessage(this.#in.decode(frame)));
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
  close(detail: string): void {
    this.#channel.close(detail);
  }
}
