// The public face of a generator that runs elsewhere: `for await (const ref of task(lines)(path)) …`.
import { inspect } from 'node:util';
import { ConfigError } from '../common/index.js';
import { defineUnsendable } from '../protocol/index.js';
import type { ItemStream } from './item-stream.js';
import { ObjectRef, type RefKeeper } from './object-ref.js';

/** Generators that nobody holds any more are cancelled: nobody will ever take their items. */
const forgotten = new FinalizationRegistry<ItemStream>((stream) => stream.close());

/**
 * The refs of what a generator task or method yields, each as soon as it was yielded. Leaving a `for await` early, or
 * `cancel(generator)`, cancels the producer: its `finally` blocks run. What it throws is thrown where the next item would be.
 */
export class ObjectRefGenerator<T> implements AsyncIterableIterator<ObjectRef<T>>, AsyncDisposable {
  readonly #stream: ItemStream;
  readonly #keeper: RefKeeper;

  /** Not for users: calls of generators return them. */
  constructor(stream: ItemStream, keeper: RefKeeper) {
    this.#stream = stream;
    this.#keeper = keeper;
    forgotten.register(this, stream, this);
  }

  /** The ref of the next item, which is there already. Rejects with what the generator threw. */
  async next(): Promise<IteratorResult<ObjectRef<T>, undefined>> {
    const state = await this.#stream.take();
    return state ? { done: false, value: new ObjectRef<T>(state, this.#keeper) } : { done: true, value: undefined };
  }
  /** Cancels the producer. Called by a `for await` that is left early. */
  async return(): Promise<IteratorResult<ObjectRef<T>, undefined>> {
    this.#stream.close();
    forgotten.unregister(this);
    return { done: true, value: undefined };
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The values of the items instead of their refs. */
  async *values(): AsyncGenerator<T, void, undefined> {
    for await (const ref of this) yield await ref;
  }

  /** The refs of a generator that has ended (await `count` first), without waiting. Throws ConfigError before, and what the generator threw. */
  *[Symbol.iterator](): Generator<ObjectRef<T>, void, undefined> {
    if (!this.#stream.isEnded)
      throw new ConfigError(
        'generator',
        'one that has ended',
        this.toString(),
        'Use "for await", or await its count first',
      );
    for (let state = this.#stream.takeNow(); state; state = this.#stream.takeNow())
      yield new ObjectRef<T>(state, this.#keeper);
  }

  /** How many items it gave, once it has ended. Awaiting it takes no items: with `generatorBackpressure` the producer waits for them. */
  get count(): ObjectRef<number> {
    forgotten.unregister(this); // whoever wants to know how many there are wants them made
    return new ObjectRef<number>(this.#stream.state, this.#keeper);
  }

  toString(): string {
    return `ObjectRefGenerator(${this.#stream.state.id})`;
  }
  [inspect.custom](): string {
    return this.toString();
  }

  /** The stream behind a generator, for this library only. */
  static streamOf(generator: ObjectRefGenerator<unknown>): ItemStream {
    return generator.#stream;
  }
  static isGenerator(value: unknown): value is ObjectRefGenerator<unknown> {
    return typeof value === 'object' && value !== null && #stream in value;
  }
}
defineUnsendable(
  ObjectRefGenerator,
  'a generator that only the process which called it can read (send the refs of its items)',
);
