// The actor behind a `Queue`: it holds the items, and the calls that wait for an item or for room.

import { runtimeContext } from './cluster-info.js';

/** What a call on the queue comes to; being full or empty is no error of the actor. */
export type QueueAnswer =
  | { readonly kind: 'done'; readonly items: readonly unknown[] }
  | { readonly kind: 'full'; readonly size: number }
  | { readonly kind: 'empty'; readonly size: number };

interface Waiter {
  readonly tryNow: () => QueueAnswer | null;
  readonly settle: (answer: QueueAnswer) => void;
}

export class QueueActor {
  readonly #sizeMax: number;
  readonly #items: unknown[] = [];
  readonly #putters: Waiter[] = [];
  readonly #getters: Waiter[] = [];

  /** @param sizeMax items at a time; 0: any number */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  /** Puts all of `items` together, once there is room for them; waits for `timeoutMs` at most (null: as long as it takes). */
  put(items: readonly unknown[], timeoutMs: number | null): QueueAnswer | Promise<QueueAnswer> {
    const full = (): QueueAnswer => ({ kind: 'full', size: this.#items.length });
    const tryNow = (): QueueAnswer | null => {
      if (this.#sizeMax > 0 && this.#items.length + items.length > this.#sizeMax) return null;
      this.#items.push(...items);
      return { kind: 'done', items: [] };
    };
    return this.#do(tryNow, this.#putters, timeoutMs, full);
  }

  /** Takes `count` items together, once there are as many. */
  get(count: number, timeoutMs: number | null): QueueAnswer | Promise<QueueAnswer> {
    const empty = (): QueueAnswer => ({ kind: 'empty', size: this.#items.length });
    const tryNow = (): QueueAnswer | null =>
      this.#items.length < count ? null : { kind: 'done', items: this.#items.splice(0, count) };
    return this.#do(tryNow, this.#getters, timeoutMs, empty);
  }

  size(): number {
    return this.#items.length;
  }

  #do(
    tryNow: Waiter['tryNow'],
    line: Waiter[],
    timeoutMs: number | null,
    late: () => QueueAnswer,
  ): QueueAnswer | Promise<QueueAnswer> {
    // Who waits already goes first.
    const now = line.length === 0 ? tryNow() : null;
    if (now) {
      this.#settle();
      return now;
    }
    if (timeoutMs === 0) return late();
    const { signal } = runtimeContext();
    return new Promise((resolve) => {
      // A caller that is gone, or gave up, must not take an item with it.
      const leave = (): void => {
        const at = line.indexOf(waiter);
        if (at >= 0) line.splice(at, 1);
        if (timer) clearTimeout(timer);
        signal?.removeEventListener('abort', leave);
        resolve(late());
        this.#settle(); // behind it may stand one that asks for less
      };
      signal?.addEventListener('abort', leave, { once: true });
      const timer = timeoutMs === null ? null : setTimeout(leave, timeoutMs);
      const waiter: Waiter = {
        tryNow,
        settle: (answer) => {
          if (timer) clearTimeout(timer);
          signal?.removeEventListener('abort', leave);
          resolve(answer);
        },
      };
      line.push(waiter);
    });
  }

  /** Whatever changed, others may go on; each of them may let the next go on. */
  #settle(): void {
    for (let moved = true; moved; ) {
      moved = false;
      for (const line of [this.#putters, this.#getters]) {
        const answer = line[0]?.tryNow();
        if (!answer) continue;
        line.shift()!.settle(answer);
        moved = true;
      }
    }
  }
}
