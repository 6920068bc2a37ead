// The third carrier: two ends in one process. Frames arrive in a later turn of the event loop, as from elsewhere.
import { ChannelBase } from './channel-base.js';

export class MemoryChannel extends ChannelBase {
  readonly isCongested = false; // whoever sends gives the turn to whoever receives
  #other: MemoryChannel | null = null;
  #queue: (() => void)[] = [];

  static pair(peer: string): readonly [MemoryChannel, MemoryChannel] {
    const [one, other] = [new MemoryChannel(peer), new MemoryChannel(peer)];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  send(frame: Uint8Array): void {
    if (!this.isClosed) this.#later((other) => other.deliver(frame));
  }

  unref(): void {} // nothing here keeps a process

  protected end(): void {
    this.#later((other) => other.ended({ error: null, detail: 'the peer closed the connection' }));
  }

  #later(act: (other: MemoryChannel) => void): void {
    const other = this.#other;
    if (!other) return;
    this.#queue.push(() => act(other));
    if (this.#queue.length > 1) return;
    setImmediate(() => {
      const queue = this.#queue;
      this.#queue = [];
      for (const each of queue) each();
    });
  }
}
