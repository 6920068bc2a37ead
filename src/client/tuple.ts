// The answer of a call with `numReturns`: so many objects, all settled by one result.
import { failureOf, type wire } from '../protocol/index.js';
import type { CallShape, Outcome } from './invocation.js';
import type { ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';

export class Tuple implements Outcome {
  readonly stream = undefined;
  readonly #runtime: Runtime;
  readonly #states: readonly ObjectState[];

  constructor(runtime: Runtime, states: readonly ObjectState[], shape: CallShape) {
    for (const state of states) runtime.lineage.keepPart(state, shape);
    this.#runtime = runtime;
    this.#states = states;
  }

  sent(): void {}
  item(): void {}
  settle(result: wire.Result, taken: () => void): void {
    if (result.failure) {
      for (const state of this.#states) this.#runtime.settleResult(state, result, taken);
      return;
    }
    let open = this.#states.length;
    const one = (): void => {
      open -= 1;
      if (open === 0) taken();
    };
    this.#states.forEach((state, index) => {
      const item = result.returns[index]!;
      if (!item.refs?.length && !item.inline?.refs?.length) one();
      this.#runtime.settleResult(state, item as wire.Item, one);
    });
  }
  fail(error: Error): void {
    const failure = failureOf(error);
    for (const state of this.#states) state.settle({ kind: 'failed', failure, local: null });
  }
}
