// Runs a generator for a caller elsewhere: sends items as they are yielded, no further ahead than the caller allows.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { runInCall } from '../client/process/index.js';
import { CancelledError } from '../common/index.js';
import type { Answers } from './answers.js';
import type { Item } from './item.js';

/** How long items are made without a look at what came meanwhile: a generator that awaits nothing would never hear of its end. */
const TURN_MS = 2;

/** An iterator, sync or async, without what its kind demands of the values. */
interface Source {
  next(): unknown;
  return?(): unknown;
}

/**
 * Gives the items of `made` to the caller of `item`, but those that it has already; of one that runs again for lost items
 * those alone, and is ended behind the last of them. Returns how many there were. Throws what the generator throws; when it
 * was cancelled its `finally` blocks have run.
 */
export async function produce(item: Item, made: unknown, answers: Answers): Promise<number> {
  const source = sourceOf(made, item.name);
  const skip = item.call.stream?.skip ?? 0;
  const aheadMax = item.call.stream?.aheadMax ?? 0;
  const only = item.call.only?.indices;
  const wanted = only && new Set(only);
  const end = only?.length ? only.at(-1)! + 1 : Number.POSITIVE_INFINITY;
  let turnEndsMs = performance.now() + TURN_MS;
  for (let index = 0; ; index += 1) {
    while (aheadMax > 0 && index - item.consumed >= aheadMax && !item.isCancelled) await item.changed();
    if (item.isCancelled || index === end) {
      await runInCall(item, () => source.return?.());
      if (index === end) return index;
      throw new CancelledError({ taskId: null });
    }
    const step = runInCall(item, () => source.next());
    const { done, value } = (step instanceof Promise ? await step : step) as IteratorResult<unknown>;
    if (done) return index;
    if (index >= skip && (wanted?.has(index) ?? true))
      await answers.item(item, index, value instanceof Promise ? await value : value);
    if (performance.now() < turnEndsMs && !item.from.stream.isCongested) continue;
    await nextTurn();
    while (item.from.stream.isCongested && !item.isCancelled) await nextTurn();
    turnEndsMs = performance.now() + TURN_MS;
  }
}

function sourceOf(made: unknown, name: string): Source {
  if (typeof made === 'object' && made !== null) {
    const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = made as Partial<
      AsyncIterable<unknown> & Iterable<unknown>
    >;
    const open = later ?? now;
    if (open) return Reflect.apply(open, made, []) as Source;
  }
  throw new TypeError(`${name} was to give items one by one, not ${made === null ? 'null' : typeof made}`);
}
