// `put`, `get`, `wait`, `cancel`: what one does with refs.
import { ConfigError } from '../common/index.js';
import { currentRuntime } from './current.js';
import { type GetOptions, limited } from './limited.js';
import { ObjectRef } from './object-ref.js';
import { ObjectRefGenerator } from './object-ref-generator.js';
import type { CancelOptions, Content, ObjectState } from './object-state.js';
import { checkKeys, checkTimeout } from './options.js';

export type { GetOptions } from './limited.js';

/** Puts a value into the object store and gives a ref to it; what is changed in the value afterwards does not show. */
export const put = <T>(value: T): ObjectRef<T> => currentRuntime().writer.put(value, put);

type Values<Refs extends readonly ObjectRef<unknown>[]> = {
  -readonly [Index in keyof Refs]: Refs[Index] extends ObjectRef<infer Value> ? Value : never;
};

/** The value of a ref, or the values of several in their order. Rejects with the first failure. */
export function get<T>(ref: ObjectRef<T>, options?: GetOptions): Promise<T>;
export function get<const Refs extends readonly ObjectRef<unknown>[]>(
  refs: Refs,
  options?: GetOptions,
): Promise<Values<Refs>>;
export function get(
  refs: ObjectRef<unknown> | readonly ObjectRef<unknown>[],
  options: GetOptions = {},
): Promise<unknown> {
  checkKeys(options, ['timeoutMs', 'signal']);
  checkTimeout(options.timeoutMs);
  const runtime = currentRuntime();
  const fetch = (ref: ObjectRef<unknown>): Promise<unknown> => runtime.reader.fetch(ObjectRef.stateOf(ref));
  const wanted = ObjectRef.isRef(refs) ? [refs] : checkRefs(refs);
  const all = ObjectRef.isRef(refs) ? fetch(refs) : Promise.all(wanted.map(fetch));
  const value = options.timeoutMs === undefined && !options.signal ? all : limited(all, options);
  const isAtHand = wanted.every((ref) => ObjectRef.stateOf(ref).isAtHand);
  return isAtHand ? value : runtime.waiting(value);
}

/** When `wait` is over. */
export interface WaitOptions {
  /** How many to wait for. Default 1. */
  readonly numReturns?: number;
  /** Milliseconds to wait at most; 0 only looks. Without it, waits as long as it takes. */
  readonly timeoutMs?: number;
}

/**
 * Splits refs into those that are ready and the rest, in their order, once `numReturns` are ready or the time is up; at
 * most `numReturns` are in `ready`. A failed call counts as ready. No refs: two empty lists at once. As Ray's.
 */
export async function wait<Ref extends ObjectRef<unknown>>(
  refs: readonly Ref[],
  options: WaitOptions = {},
): Promise<{ readonly ready: Ref[]; readonly rest: Ref[] }> {
  const runtime = currentRuntime();
  checkKeys(options, ['numReturns', 'timeoutMs']);
  const { numReturns = 1, timeoutMs } = options;
  checkTimeout(timeoutMs);
  checkDifferent(refs, runtime.nextWait());
  if (refs.length === 0) return { ready: [], rest: [] };
  if (!Number.isInteger(numReturns) || numReturns < 1 || numReturns > refs.length)
    throw new ConfigError('numReturns', `an integer from 1 to ${refs.length}, the number of refs`, numReturns);
  const readyCount = countReady(refs, numReturns);
  if (readyCount < numReturns && timeoutMs !== 0) {
    await new Promise<void>((resolve) => {
      runtime.beginWait();
      let missing = numReturns - readyCount;
      const listeners: { readonly state: ObjectState; readonly listener: (content: Content) => void }[] = [];
      const timer = timeoutMs === undefined ? null : setTimeout(() => done(), timeoutMs);
      const done = (): void => {
        if (timer) clearTimeout(timer);
        for (const { state, listener } of listeners) state.forgetListener(listener);
        runtime.endWait();
        resolve();
      };
      const settled = (): void => {
        missing -= 1;
        if (missing === 0) done();
      };
      for (const ref of refs) {
        const state = ObjectRef.stateOf(ref);
        if (state.content) continue;
        listeners.push({ state, listener: settled });
        runtime.reader.whenSettled(state, settled);
      }
    });
  } else if (timeoutMs === 0) {
    // Gives what has arrived but was not read yet its turn.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const ready: Ref[] = [];
  const rest: Ref[] = [];
  let at = 0;
  for (; at < refs.length && ready.length < numReturns; at += 1) (isReady(refs[at]!) ? ready : rest).push(refs[at]!);
  return { ready, rest: rest.length === 0 ? refs.slice(at) : rest.concat(refs.slice(at)) };
}

const isReady = (ref: ObjectRef<unknown>): boolean => ObjectRef.stateOf(ref).content !== null;

/** Told by the number of this `wait`, not by a set: a loop of waits is given the same refs over and over. */
function checkDifferent(refs: readonly ObjectRef<unknown>[], waitNumber: number): void {
  if (!Array.isArray(refs)) checkRefs(refs);
  for (const ref of refs) {
    const state = ObjectRef.stateOf(checkRef(ref));
    if (state.waitNumber === waitNumber) throw new ConfigError('refs', 'refs that are all different', refs.length);
    state.waitNumber = waitNumber;
  }
}

/** How many are ready, counted up to `enough`. */
function countReady(refs: readonly ObjectRef<unknown>[], enough: number): number {
  let count = 0;
  for (const ref of refs) {
    if (isReady(ref)) count += 1;
    if (count === enough) break;
  }
  return count;
}

/**
 * Cancels the call behind a ref: it fails with CancelledError. One that already runs is told by `runtimeContext().signal`, and
 * its result is dropped; a task that does not heed it can be ended with its process (`forceAfterMs`). Calls that the
 * cancelled one made are cancelled too, unless `recursive` is false. As Ray, a cancelled call is not tried again.
 */
export function cancel(ref: ObjectRef<unknown> | ObjectRefGenerator<unknown>, options: CancelOptions = {}): void {
  checkKeys(options, ['forceAfterMs', 'recursive']);
  const { forceAfterMs } = options;
  if (forceAfterMs !== undefined && !(typeof forceAfterMs === 'number' && forceAfterMs >= 0))
    throw new ConfigError('forceAfterMs', 'a number of milliseconds of at least 0', forceAfterMs);
  const state = ObjectRefGenerator.isGenerator(ref)
    ? ObjectRefGenerator.streamOf(ref).state
    : ObjectRef.stateOf(checkRef(ref));
  if (state.invocation) state.invocation.cancel(options);
  else if (!state.content) throw new ConfigError('ref', 'the ref of a call that this process made', state.id);
}

function checkRef(value: unknown): ObjectRef<unknown> {
  if (!ObjectRef.isRef(value)) throw new ConfigError('ref', 'an ObjectRef, as calls and put() return', value);
  return value;
}
function checkRefs(values: readonly unknown[]): readonly ObjectRef<unknown>[] {
  if (!Array.isArray(values)) throw new ConfigError('refs', 'an ObjectRef or a list of them', values);
  for (const value of values) checkRef(value);
  return values;
}
