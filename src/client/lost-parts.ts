// Where the answer of a call goes that runs again because some of its several returns, or items, were lost.
import {
  itemIdOf,
  itemIndexOf,
  type ObjectId,
  ObjectReconstructionFailedError,
  objectIdOf,
  sequenceOf,
  type WorkerId,
} from '../common/index.js';
import { failureOf, type wire } from '../protocol/index.js';
import type { Invocation, Outcome } from './invocation.js';
import type { Maker } from './lineage.js';
import type { Content, ObjectState } from './object-state.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';
import { settleParts } from './tuple.js';

export class LostParts implements Outcome {
  readonly #runtime: Runtime;
  readonly #maker: Maker;
  readonly #done: () => void;
  #asked: number[] | null = null; // places; null: it was not sent yet
  #link: PeerLink | null = null;

  /** @param done hears of the call's end: what is in `maker.lost` then was lost too late for it */
  constructor(runtime: Runtime, maker: Maker, done: () => void) {
    this.#runtime = runtime;
    this.#maker = maker;
    this.#done = done;
  }

  /** Nobody takes these items one by one: the producer need not wait. */
  get stream(): wire.Stream.$Properties | undefined {
    return this.#maker.shape.returns === 'items' ? { skip: 0, consumed: 0, aheadMax: 0 } : undefined;
  }
  get only(): wire.Parts.$Properties {
    this.#asked = [...this.#maker.lost.keys()].sort((a, b) => a - b);
    return { indices: this.#asked };
  }
  sent(link: PeerLink): void {
    this.#link = link;
  }

  item(item: wire.Item): void {
    const link = this.#link;
    const taken = (): void => {
      if (item.giveId !== 0) link?.stream.takenItem(item.giveId);
    };
    const state = this.#maker.lost.get(item.index);
    if (!state) return; // a double
    this.#maker.lost.delete(item.index);
    this.#runtime.writer.settleResult(state, item, taken);
  }

  settle(result: wire.Result, taken: () => void, call: Invocation): void {
    const missing = this.#take();
    if (result.failure) for (const state of missing.values()) this.#runtime.writer.settleResult(state, result, taken);
    else if (this.#maker.shape.returns !== 'items') settleParts(this.#runtime, result, missing, taken);
    else {
      const { name } = this.#maker.shape;
      const detail = `${name} gave fewer items when it ran again: it does not give the same each time`;
      for (const state of missing.values())
        state.settle(failed(new ObjectReconstructionFailedError({ objectId: state.id, reason: 'replay', detail })));
    }
    this.#maker.retriesLeft = call.retriesLeft;
    this.#done();
  }
  fail(error: Error): void {
    for (const state of this.#take().values()) state.settle(failed(error));
    this.#done();
  }
  /** What was asked for and has not come. */
  #take(): ReadonlyMap<number, ObjectState> {
    const { lost } = this.#maker;
    const taken = new Map<number, ObjectState>();
    for (const index of this.#asked ?? [...lost.keys()]) {
      const state = lost.get(index);
      if (state) taken.set(index, state);
      lost.delete(index);
    }
    return taken;
  }
}

export const failed = (error: Error): Content => ({ kind: 'failed', failure: failureOf(error), local: error });

/** The id of the `index`-th of several results. */
export const partIdOf = ({ shape, sequence }: Maker, index: number, owner: WorkerId): ObjectId =>
  shape.returns === 'items' ? itemIdOf(owner, sequence, index) : objectIdOf(owner, sequence + index);

/** Which of several results an object is. */
export const placeOf = (id: ObjectId, { sequence }: Maker): number => itemIndexOf(id) ?? sequenceOf(id) - sequence;
