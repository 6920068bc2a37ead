// Carries out effects in order, what must survive first: nothing leaves the head before the records that it depends on
// are on disk. Whatever queued up during one write goes to disk together in the next.
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import { changeOf } from './records.js';
import type { Change, Store } from './store.js';

/** Work for the outbox: an effect, or a change of the store with what follows it. */
export type Outgoing = Effect | { readonly kind: 'change'; readonly change: Change; readonly done: () => void };

export class Outbox {
  readonly #state: ClusterState;
  readonly #store: Store;
  readonly #carryOut: (effect: Effect) => void;
  readonly #fail: (error: unknown) => void;
  #queue: Outgoing[] = [];
  #isWriting = false;
  #idle: Promise<void> = Promise.resolve();

  /** `fail` hears of a write that failed; nothing is carried out after that, since the disk no longer vouches for it. */
  constructor(state: ClusterState, store: Store, carryOut: (effect: Effect) => void, fail: (error: unknown) => void) {
    this.#state = state;
    this.#store = store;
    this.#carryOut = carryOut;
    this.#fail = fail;
  }

  /** Resolves when everything that was put is on disk and carried out. */
  get idle(): Promise<void> {
    return this.#idle;
  }

  put(work: readonly Outgoing[]): void {
    this.#queue.push(...work);
    if (this.#isWriting) return;
    if (!this.#queue.some(needsStore)) this.#carryOutAll(this.#take());
    if (this.#queue.length > 0) this.#idle = this.#drain().catch(this.#fail);
  }

  /** What carrying out puts into the queue meanwhile comes after. */
  #carryOutAll(work: readonly Outgoing[]): void {
    this.#isWriting = true;
    for (const item of work) {
      if (item.kind === 'change') item.done();
      else if (item.kind !== 'save') this.#carryOut(item);
    }
    this.#isWriting = false;
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const work = this.#take();
      const changes = new Map<string, Change>();
      let isDurable = false;
      for (const item of work) {
        if (!needsStore(item)) continue;
        const change = item.kind === 'change' ? item.change : changeOf(this.#state, item.table, item.id);
        changes.set(`${change.table}/${change.id}`, change);
        // A lease is worth keeping across a crash of the head, not a wait for the disk on every task.
        if (change.table !== 'lease' && change.table !== 'run') isDurable = true;
      }
      if (changes.size > 0) {
        this.#isWriting = true;
        await this.#store.write([...changes.values()], isDurable);
      }
      this.#carryOutAll(work);
    }
  }

  #take(): Outgoing[] {
    const work = this.#queue;
    this.#queue = [];
    return work;
  }
}

function needsStore(item: Outgoing): item is Extract<Outgoing, { readonly kind: 'save' | 'forget' | 'change' }> {
  return item.kind === 'save' || item.kind === 'forget' || item.kind === 'change';
}
