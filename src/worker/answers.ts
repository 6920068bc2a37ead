// Sends what calls come to: values inside the answer, large ones by way of the arena, errors with what the caller must know.
import { acceptsRetry, copied, layoutValue, type ObjectRef, type Runtime } from '../client/process/index.js';
import {
  CancelledError,
  itemIdOf,
  type NodeId,
  type ObjectId,
  objectIdOf,
  RayliteError,
  TaskError,
  type WorkerId,
} from '../common/index.js';
import { asError, failureOf, type wire } from '../protocol/index.js';
import type { Item } from './item.js';

/** A value on its way: where it is, and the refs that must be kept until the caller has them. */
interface Placed {
  readonly sent: {
    inline?: wire.Value.$Properties;
    location?: wire.Location.$Properties;
    refs?: wire.Ref.$Properties[];
  };
  readonly bytes: number;
  readonly refs: readonly ObjectRef<unknown>[];
}

const NO_REFS: readonly never[] = [];
const NOTHING: Placed = { sent: {}, bytes: 0, refs: NO_REFS };

export class Answers {
  readonly #runtime: Runtime;
  readonly #done: (item: Item) => void;
  readonly #load: (rule: wire.CodeRef.$Properties) => Promise<unknown>;

  /**
   * @param done hears of each call that is answered
   * @param load finds what `retryOn` names
   */
  constructor(
    runtime: Runtime,
    done: (item: Item) => void,
    load: (rule: wire.CodeRef.$Properties) => Promise<unknown>,
  ) {
    this.#runtime = runtime;
    this.#done = done;
    this.#load = load;
  }

  /** Answers with the value of a call; returns a promise when the store has no room for it yet. */
  value(item: Item, value: unknown): Promise<void> | null {
    if (item.isCancelled) {
      this.cancelled(item);
      return null;
    }
    const { call, from } = item;
    if (from.stream.isClosed) return null; // nobody would own what is made here
    try {
      if (call.returnCount > 0) return this.#several(item, value);
      const owner = (from.peer.workerId ?? '') as WorkerId;
      const placed = this.#place(item, value, objectIdOf(owner, call.returnSequence), 'result');
      if (!(placed instanceof Promise)) {
        this.#send(item, placed.sent, placed.bytes, placed.refs);
        return null;
      }
      return placed.then(
        ({ sent, bytes, refs }) => this.#send(item, sent, bytes, refs),
        (error: unknown) => this.fail(item, asError(error)),
      );
    } catch (error) {
      this.fail(item, asError(error));
      return null;
    }
  }

  async #several(item: Item, value: unknown): Promise<void> {
    const { call, from, name } = item;
    const owner = (from.peer.workerId ?? '') as WorkerId;
    try {
      if (!Array.isArray(value) || value.length !== call.returnCount) {
        const given = Array.isArray(value) ? `a list of ${value.length}` : typeof value;
        throw new TypeError(`${name} was to return a list of ${call.returnCount} values (numReturns), not ${given}`);
      }
      const wanted = call.only?.indices;
      const placed = await Promise.all(
        value.map((each, index) =>
          wanted && !wanted.includes(index)
            ? NOTHING
            : this.#place(item, each, objectIdOf(owner, call.returnSequence + index), `result[${index}]`),
        ),
      );
      const returns = placed.map(({ sent }, index) => ({ ...sent, index }));
      const bytes = placed.reduce((sum, each) => sum + each.bytes, 0);
      const refs = placed.flatMap((each) => each.refs);
      this.#send(item, { returns }, bytes, refs);
    } catch (error) {
      this.fail(item, asError(error));
    }
  }

  /** Sends one item of a generator; rejects when it cannot travel. */
  async item(item: Item, index: number, value: unknown): Promise<void> {
    const { call, from } = item;
    const owner = (from.peer.workerId ?? '') as WorkerId;
    const id = itemIdOf(owner, call.returnSequence, index);
    const placed = this.#place(item, value, id, `item[${index}]`);
    const { sent, bytes, refs } = placed instanceof Promise ? await placed : placed;
    if (item.acks !== null) await item.acks;
    from.give({ ...sent, callId: call.id, index }, bytes, refs);
  }

  cancelled(item: Item): void {
    this.fail(item, new CancelledError({ taskId: null }));
  }

  /** User code threw: the caller gets a TaskError around it, and hears whether it may try again. */
  threw(item: Item, thrown: unknown): void {
    if (item.isCancelled) {
      this.cancelled(item);
      return;
    }
    const { workerId, nodeId } = this.#runtime;
    item.isApplicationFailure = true;
    const facts = { functionName: item.name, workerId: workerId as WorkerId, nodeId: nodeId as NodeId };
    const error = new TaskError(facts, { cause: asError(thrown) });
    const rules = item.call.retryOn;
    if (rules.length === 0) this.fail(item, error);
    else
      acceptsRetry(thrown, rules, this.#load)
        .then((mayRetry) => this.fail(item, error, mayRetry))
        .catch(crash);
  }

  fail(item: Item, error: Error, mayRetry = false): void {
    const isOurs = error instanceof RayliteError;
    const { workerId, nodeId } = this.#runtime;
    const shown = isOurs ? error : new TaskError({ functionName: item.name, workerId, nodeId }, { cause: error });
    this.#send(item, { failure: failureOf(shown, item.isApplicationFailure), mayRetry }, 0, NO_REFS);
  }

  /** Brings a value into the form in which it travels; a promise when it waits for room in the store. */
  #place(item: Item, value: unknown, id: ObjectId, path: string): Placed | Promise<Placed> {
    const runtime = this.#runtime;
    const sendable = runtime.values.encode(value, path, item.name);
    if (sendable.bytes <= runtime.inlineBytesMax)
      return { sent: { inline: copied(sendable.encoded) }, bytes: sendable.bytes, refs: sendable.refs };
    const owner = (item.from.peer.workerId ?? '') as WorkerId;
    const layout = layoutValue(sendable.encoded);
    const refs = sendable.encoded.refs as wire.Ref.$Properties[];
    const there = runtime.store.write(id, owner, layout);
    const placed = (location: wire.Location.$Properties): Placed => ({
      sent: { location, refs },
      bytes: 0,
      refs: sendable.refs,
    });
    return there instanceof Promise ? there.then(placed) : placed(there);
  }

  #send(
    item: Item,
    result: Omit<wire.Result.$Properties, 'callId'>,
    bytes: number,
    refs: readonly ObjectRef<unknown>[],
  ): void {
    const { call, from } = item;
    this.#done(item);
    if (item.acks !== null) item.acks.then(() => from.answer(call.id, result, bytes, refs)).catch(crash);
    else from.answer(call.id, result, bytes, refs);
  }
}

/** A bug of ours: the process ends with its stack, as after any uncaught error. */
export const crash = (error: unknown): void => {
  setImmediate(() => {
    throw error;
  });
};
