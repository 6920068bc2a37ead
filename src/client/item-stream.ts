// The consumer's side of a generator that runs elsewhere: items in their order as they come, and how many were taken.
import { itemIdOf, type WorkerId } from '../common/index.js';
import { errorOf, failureOf, type wire } from '../protocol/index.js';
import { withSite } from './call-site.js';
import type { Invocation, Outcome } from './invocation.js';
import { ObjectState } from './object-state.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';

type End = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: Error };

export class ItemStream implements Outcome {
  /** The object of the call itself: the number of items. */
  readonly state: ObjectState;
  readonly only = undefined;
  readonly #runtime: Runtime;
  readonly #sequence: number;
  readonly #aheadMax: number;
  readonly #items: ObjectState[] = []; // not taken yet
  #received = 0;
  #consumed = 0;
  #end: End | null = null;
  #isClosed = false;
  #link: PeerLink | null = null;
  #callId = 0;
  #waiting: (() => void)[] = [];

  constructor(runtime: Runtime, state: ObjectState, sequence: number, aheadMax: number) {
    this.#runtime = runtime;
    this.state = state;
    this.#sequence = sequence;
    this.#aheadMax = aheadMax;
  }

  get stream(): wire.Stream.$Properties {
    return { skip: this.#received, consumed: this.#consumed, aheadMax: this.#aheadMax };
  }
  sent(link: PeerLink, callId: number): void {
    this.#link = link;
    this.#callId = callId;
  }

  item(item: wire.Item, call: Invocation): void {
    if (item.index < this.#received) return; // a double
    const link = this.#link;
    const owner = this.#runtime.workerId as WorkerId;
    const id = itemIdOf(owner, this.#sequence, item.index);
    const state = new ObjectState(owner, this.#sequence, { id, owner: null });
    if (item.location) this.#runtime.lineage.keepPart(state, item.index, call);
    this.#runtime.writer.settleResult(state, item, () => {
      if (item.giveId !== 0) link?.stream.takenItem(item.giveId);
    });
    if (this.#isClosed) {
      this.#runtime.letGo(state); // nobody will take it
      return;
    }
    this.#received = item.index + 1;
    this.#items.push(state);
    this.#wake();
  }
  settle(result: wire.Result, taken: () => void): void {
    this.#runtime.writer.settleResult(this.state, result, taken);
    this.#ended(
      result.failure ? { kind: 'failed', error: withSite(errorOf(result.failure), this.state.site) } : { kind: 'done' },
    );
  }
  fail(error: Error): void {
    this.state.settle({ kind: 'failed', failure: failureOf(error), local: null });
    this.#ended({ kind: 'failed', error: withSite(error, this.state.site) });
  }

  /** The next item, null at the end. Rejects with what the generator threw, once, at the place where it threw. */
  async take(): Promise<ObjectState | null> {
    while (this.#items.length === 0 && this.#end === null && !this.#isClosed)
      await this.#runtime.waiting(new Promise<void>((resolve) => this.#waiting.push(resolve)));
    return this.takeNow();
  }
  /** As {@link take}, of an ended generator. */
  takeNow(): ObjectState | null {
    const next = this.#items.shift();
    if (next) {
      this.#consumed += 1;
      if (this.#aheadMax > 0 && this.#end === null)
        this.#link?.stream.consumed({ callId: this.#callId, count: this.#consumed });
      return next;
    }
    const end = this.#end;
    if (end?.kind === 'failed' && !this.#isClosed) {
      this.#isClosed = true;
      throw end.error;
    }
    return null;
  }
  get isEnded(): boolean {
    return this.#end !== null || this.#isClosed;
  }

  /** Nobody takes any more: the producer is told, what has come is let go. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.state.invocation?.cancel({});
    for (const state of this.#items.splice(0)) this.#runtime.letGo(state);
    this.#wake();
  }

  #ended(end: End): void {
    this.#end ??= end;
    this.#wake();
  }
  #wake(): void {
    for (const go of this.#waiting.splice(0)) go();
  }
}
