// The doors of the parts of a cluster that is all in one process, by name.
import type { Accept, PeerDoor } from '../client/process/index.js';
import { ConnectionError } from '../common/index.js';
import { type Channel, MemoryChannel, type wire } from '../protocol/index.js';

export class MemoryDoors {
  readonly #open = new Map<string, Accept>();
  #lastId = 0;

  readonly open = (accept: Accept): PeerDoor => {
    this.#lastId += 1;
    const uds = `memory:${this.#lastId}`;
    this.#open.set(uds, accept);
    return {
      uds,
      tcp: '',
      dial: (address) => this.#dial(address),
      unref: () => {},
      [Symbol.asyncDispose]: async () => void this.#open.delete(uds),
    };
  };

  async #dial(
    address: wire.WorkerAddress.$Properties,
  ): Promise<{ readonly channel: Channel; readonly token: string | null }> {
    const accept = this.#open.get(address.uds ?? '');
    if (!accept) throw new ConnectionError({ address: address.uds ?? '', detail: 'it has ended' });
    const [near, far] = MemoryChannel.pair(address.uds ?? '');
    accept(far, null);
    return { channel: near, token: null };
  }
}
