// Tasks that wait for a worker: those of a higher priority first, equal ones in their order.
import type { Invocation } from './invocation.js';

interface Lane {
  readonly priority: number;
  items: Invocation[];
  head: number;
}

const SPLICE_AT = 1024;

export class TaskQueue {
  readonly #lanes: Lane[] = []; // highest first, never empty ones
  #size = 0;

  get size(): number {
    return this.#size;
  }
  /** The one that {@link shift} would take. */
  get first(): Invocation | undefined {
    const lane = this.#lanes[0];
    return lane?.items[lane.head];
  }

  push(invocation: Invocation): void {
    const { priority } = invocation.shape;
    let at = 0;
    while (at < this.#lanes.length && this.#lanes[at]!.priority > priority) at += 1;
    const lane = this.#lanes[at];
    if (lane?.priority === priority) lane.items.push(invocation);
    else this.#lanes.splice(at, 0, { priority, items: [invocation], head: 0 });
    this.#size += 1;
  }

  shift(): Invocation | undefined {
    const lane = this.#lanes[0];
    if (!lane) return undefined;
    const next = lane.items[lane.head]!;
    lane.head += 1;
    this.#size -= 1;
    if (lane.head === lane.items.length) this.#lanes.shift();
    else if (lane.head > SPLICE_AT) {
      lane.items = lane.items.slice(lane.head);
      lane.head = 0;
    }
    return next;
  }

  remove(invocation: Invocation): void {
    const at = this.#lanes.findIndex(({ priority }) => priority === invocation.shape.priority);
    const lane = this.#lanes[at];
    const place = lane?.items.indexOf(invocation, lane.head) ?? -1;
    if (!lane || place < 0) return;
    lane.items.splice(place, 1);
    this.#size -= 1;
    if (lane.head === lane.items.length) this.#lanes.splice(at, 1);
  }
}
