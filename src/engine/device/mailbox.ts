// One-way traffic between neighbours of a pipeline, over a communicator of two of which the sender is rank 0. Messages of a way are
// read in the order in which they are posted. Neither side waits for the other before it must: what is posted is copied out of the
// way and travels while the next program runs, and the receiver asks for as many messages ahead as it has room for. A GPU has none: what
// waits on it for a peer could keep what others wait for from being loaded or freed.
import type { NativeCommunicator, NativeDevice } from '../../native/index.js';

const SENDER = 0;
const RECEIVER = 1;

/** Where a message lies on the device. */
export interface MessagePlace {
  readonly buffer: number;
  readonly offset: number;
}

/** A way out or in, and the buffers on the device that hold a message each. */
export interface Way {
  readonly device: NativeDevice;
  readonly link: NativeCommunicator;
  readonly bytes: number;
  readonly slots: readonly number[];
}

export class Outbox {
  readonly #way: Way;
  #sending: Promise<void> = Promise.resolve();

  /** The way's slot holds the message that is under way. */
  constructor(way: Way) {
    this.#way = way;
  }

  /** Copies the message and sends it; waits only for the one before. */
  async post(from: MessagePlace): Promise<void> {
    const { device, link, bytes, slots } = this.#way;
    await this.#sending;
    const slot = { buffer: slots[0]!, offset: 0 };
    device.copy(from.buffer, from.offset, slot.buffer, slot.offset, bytes);
    this.#sending = device.pass(link, { ...slot, bytes, to: RECEIVER });
    this.#sending.catch(() => {}); // told by whoever waits for it
  }

  /** Waits until everything posted has arrived. */
  flush(): Promise<void> {
    return this.#sending;
  }
}

export class Inbox {
  readonly #way: Way;
  readonly #free: number[];
  readonly #coming: { readonly slot: number; readonly arrival: Promise<void> }[] = [];
  #left = 0; // messages of this step that were not asked for yet

  /** The way's slots hold messages from their arrival until they are taken; without any, they arrive when they are taken. */
  constructor(way: Way) {
    this.#way = way;
    this.#free = [...way.slots];
  }

  /** Says how many messages the coming step has. */
  expect(count: number): void {
    this.#left = count;
    this.#ask();
  }

  /** Has the next message at `into`. */
  async take(into: MessagePlace): Promise<void> {
    const { device, bytes, slots } = this.#way;
    if (slots.length === 0) return this.#receive(into);
    const { slot, arrival } = this.#coming.shift()!;
    await arrival;
    device.copy(slot, 0, into.buffer, into.offset, bytes);
    this.#free.push(slot);
    this.#ask();
  }

  #ask(): void {
    for (let slot = this.#free.pop(); slot !== undefined; slot = this.#free.pop()) {
      if (this.#left === 0) {
        this.#free.push(slot);
        return;
      }
      this.#left--;
      const arrival = this.#receive({ buffer: slot, offset: 0 });
      arrival.catch(() => {}); // told by take()
      this.#coming.push({ slot, arrival });
    }
  }

  #receive(place: MessagePlace): Promise<void> {
    const { device, link, bytes } = this.#way;
    return device.pass(link, { ...place, bytes, from: SENDER });
  }
}
