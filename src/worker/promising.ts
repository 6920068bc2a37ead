// Which functions may wait while they run, so that others run meanwhile.
import type { Callable } from './item.js';

/** Functions that are not written as async and have given promises. */
const promising = new WeakSet<Callable>();
const ASYNC = ['[object AsyncFunction]', '[object AsyncGeneratorFunction]', '[object GeneratorFunction]'];
const kinds = new WeakMap<Callable, boolean>();

/** Whether `run` is written as async, or a generator, or has given a promise before. */
export const mayWait = (run: Callable): boolean => isAsync(run) || promising.has(run);

/** `run` has given a promise. */
export function notePromise(run: Callable): void {
  promising.add(run);
}

function isAsync(run: Callable): boolean {
  let known = kinds.get(run);
  if (known === undefined) {
    known = ASYNC.includes(Object.prototype.toString.call(run));
    kinds.set(run, known);
  }
  return known;
}

export const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
