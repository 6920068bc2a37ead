// One-way traffic between neighbours of a pipeline, over a communicator of two of which the sender is rank 0. Messages of a way are
// read in the order in which they are posted. Neither side waits for the other before it must: what is posted is copied out of the
// way and travels while the next program runs, and the receiver asks for as many messages ahead as it has room for.
import type { NativeCommunicator } from '../../native/index.js';

const SENDER = 0;
const RECEIVER = 1;

export class Outbox {
  readonly #link: NativeCommunicator;
  readonly #slot: Uint8Array;
  #sending: Promise<void> = Promise.resolve();

  /** `slot` holds the message that is on its way. */
  constructor(link: NativeCommunicator, slot: Uint8Array) {
    this.#link = link;
    this.#slot = slot;
  }

  /** Copies the message and sends it; waits only for the one before. */
  async post(message: Uint8Array): Promise<void> {
    await this.#sending;
    this.#slot.set(message);
    this.#sending = this.#link.sendReceive({ send: this.#slot, to: RECEIVER });
    this.#sending.catch(() => {}); // told by whoever waits for it
  }

  /** Waits until everything posted has arrived. */
  flush(): Promise<void> {
    return this.#sending;
  }
}

export class Inbox {
  readonly #link: NativeCommunicator;
  readonly #free: Uint8Array[];
  readonly #coming: { readonly slot: Uint8Array; readonly arrival: Promise<void> }[] = [];
  #left = 0; // messages of this step that were not asked for yet

  /** `slots` hold messages from their arrival until they are taken. */
  constructor(link: NativeCommunicator, slots: readonly Uint8Array[]) {
    this.#link = link;
    this.#free = [...slots];
  }

  /** Says how many messages the coming step has. */
  expect(count: number): void {
    this.#left = count;
    this.#ask();
  }

  /** Copies the next message to `into` when it is there. */
  async take(into: Uint8Array): Promise<void> {
    const { slot, arrival } = this.#coming.shift()!;
    await arrival;
    into.set(slot);
    this.#free.push(slot);
    this.#ask();
  }

  #ask(): void {
    for (let slot = this.#free.pop(); slot; slot = this.#free.pop()) {
      if (this.#left === 0) {
        this.#free.push(slot);
        return;
      }
      this.#left--;
      const arrival = this.#link.sendReceive({ receive: slot, from: SENDER });
      arrival.catch(() => {}); // told by take()
      this.#coming.push({ slot, arrival });
    }
  }
}
