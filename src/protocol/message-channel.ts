// Typed messages on a channel: one message a frame, decoded at the door.
import { ConnectionError } from '../common/index.js';
import type { Channel, CloseReason } from './channel.js';
import { type Faults, faults } from './faults.js';

/** The two functions of a generated message class that a channel needs. */
export interface Codec<Sent, Decoded> {
  encode(message: Sent): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Decoded;
}

export class MessageChannel<Sent, Received> {
  readonly #channel: Channel;
  #held: Uint8Array[] | null = null; // behind a message that a test delays
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
    if (this.#channel.isClosed) return;
    if (faults) this.#sendFaulty(message, faults);
    else this.#channel.send(this.#out.encode(message).finish());
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
  #sendFaulty(message: Sent, faulty: Faults): void {
    const method = Object.keys(message as object).find((key) => key !== 'requestId' && key !== 'kind') ?? '';
    const next = this.#held ? null : faulty.next(method);
    const frame = this.#out.encode(message).finish();
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
    this.#channel.close(detail);
  }
}
