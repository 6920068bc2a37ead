// The answer of a call with `numReturns`: so many objects, all settled by one result.
import { failureOf, type wire } from '../protocol/index.js';
import type { Invocation, Outcome } from './invocation.js';
import type { ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';

export class Tuple implements Outcome {
  readonly stream = undefined;
  readonly only = undefined;
  readonly #runtime: Runtime;
  readonly #states: readonly ObjectState[];

  constructor(runtime: Runtime, states: readonly ObjectState[]) {
    this.#runtime = runtime;
    this.#states = states;
  }

  sent(): void {}
  item(): void {}
  settle(result: wire.Result, taken: () => void, call: Invocation): void {
    if (result.failure) {
      for (const state of this.#states) this.#runtime.writer.settleResult(state, result, taken);
      return;
    }
    this.#states.forEach((state, index) => {
      if (result.returns[index]?.location) this.#runtime.lineage.keepPart(state, index, call);
    });
    settleParts(this.#runtime, result, this.#states.entries(), taken);
  }
  fail(error: Error): void {
    const failure = failureOf(error);
    for (const state of this.#states) state.settle({ kind: 'failed', failure, local: null });
  }
}

/** Settles `parts` by the answer of a call with several returns; `taken` is called once all refs in them are held here. */
export function settleParts(
  runtime: Runtime,
  { returns }: wire.Result,
  parts: Iterable<readonly [number, ObjectState]>,
  taken: () => void,
): void {
  let open = 1;
  const one = (): void => {
    open -= 1;
    if (open === 0) taken();
  };
  for (const [index, state] of parts) {
    const item = returns[index] as wire.Item;
    if (item.refs.length > 0 || (item.inline?.refs?.length ?? 0) > 0) open += 1;
    runtime.writer.settleResult(state, item, one);
  }
  one();
}
