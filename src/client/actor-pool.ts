// Spreads calls over several actors of one class, each with one call at a time.
import { ConfigError, GetTimeoutError } from '../common/index.js';
import { wait } from './get-wait.js';
import type { ObjectRef } from './object-ref.js';
import { checkTimeout } from './options.js';

/** One call: given a free actor and a value, makes it. */
export type PoolCall<Handle, Value, Result> = (actor: Handle, value: Value) => ObjectRef<Result>;

interface Running<Handle> {
  readonly actor: Handle;
  readonly index: number;
}

/**
 * A fixed set of actors, and calls that wait until one of them is free. As Ray's `ActorPool`.
 *
 *     const pool = new ActorPool([await actor(Scorer).create(), await actor(Scorer).create()]);
 *     for await (const score of pool.map((scorer, text) => scorer.score(text), texts)) …
 */
export class ActorPool<Handle extends object> {
  readonly #idle: Handle[];
  readonly #waiting: { readonly make: (actor: Handle) => ObjectRef<unknown>; readonly index: number }[] = [];
  readonly #running = new Map<ObjectRef<unknown>, Running<Handle>>();
  readonly #refs = new Map<number, ObjectRef<unknown>>(); // made and not taken, by their order
  #nextIndex = 0;
  #nextTaken = 0;
  #changed: (() => void)[] = [];

  constructor(actors: readonly Handle[]) {
    if (!Array.isArray(actors) || actors.length === 0)
      throw new ConfigError('actors', 'a list of at least one actor handle', actors);
    this.#idle = [...actors];
  }

  /** Makes a call as soon as an actor is free. Its result is taken with `getNext` or `getNextUnordered`. */
  submit<Value, Result>(call: PoolCall<Handle, Value, Result>, value: Value): void {
    this.#waiting.push({ make: (actor) => call(actor, value), index: this.#nextIndex++ });
    this.#pump();
  }

  get hasNext(): boolean {
    return this.#refs.size > 0 || this.#waiting.length > 0;
  }
  get hasFree(): boolean {
    return this.#idle.length > 0 && this.#waiting.length === 0;
  }

  /** The result of the oldest call that was not taken yet. Rejects with what the call threw, or GetTimeoutError: then it may be asked for again. */
  async getNext<Result>(options: { readonly timeoutMs?: number } = {}): Promise<Result> {
    this.#checkNext(options);
    // Calls that were taken out of order leave gaps.
    while (!this.#refs.has(this.#nextTaken) && this.#nextTaken < this.#oldestWaiting()) this.#nextTaken += 1;
    const index = this.#nextTaken;
    const deadline = deadlineOf(options.timeoutMs);
    while (!this.#refs.has(index)) await this.#change(deadline, options.timeoutMs);
    const ref = this.#refs.get(index)!;
    const { ready } = await wait([ref], leftOf(deadline));
    if (ready.length === 0) throw new GetTimeoutError({ timeoutMs: options.timeoutMs ?? 0 });
    this.#nextTaken = index + 1;
    return (await this.#take(index, ref)) as Result;
  }

  /** The result of whichever call is ready first. */
  async getNextUnordered<Result>(options: { readonly timeoutMs?: number } = {}): Promise<Result> {
    this.#checkNext(options);
    const deadline = deadlineOf(options.timeoutMs);
    while (this.#refs.size === 0) await this.#change(deadline, options.timeoutMs);
    const { ready } = await wait([...this.#refs.values()], leftOf(deadline));
    const [ref] = ready;
    if (!ref) throw new GetTimeoutError({ timeoutMs: options.timeoutMs ?? 0 });
    const [index] = [...this.#refs].find(([, other]) => other === ref)!;
    return (await this.#take(index, ref)) as Result;
  }

  /** The results for `values`, in their order. Calls are made as actors become free, not as results are taken. */
  async *map<Value, Result>(
    call: PoolCall<Handle, Value, Result>,
    values: Iterable<Value>,
  ): AsyncGenerator<Result, void, undefined> {
    this.#begin(call, values);
    while (this.hasNext) yield await this.getNext<Result>();
  }
  /** The results for `values`, each as soon as it is ready. */
  async *mapUnordered<Value, Result>(
    call: PoolCall<Handle, Value, Result>,
    values: Iterable<Value>,
  ): AsyncGenerator<Result, void, undefined> {
    this.#begin(call, values);
    while (this.hasNext) yield await this.getNextUnordered<Result>();
  }

  /** Adds an actor. Throws ConfigError for one that is in the pool. */
  push(actor: Handle): void {
    if (this.#idle.includes(actor) || [...this.#running.values()].some((running) => running.actor === actor))
      throw new ConfigError('actor', 'one that is not in the pool', actor);
    this.#idle.push(actor);
    this.#pump();
  }
  /** Takes a free actor out; null when none is free. */
  pop(): Handle | null {
    return this.hasFree ? (this.#idle.pop() ?? null) : null;
  }

  /** As Ray's: results of calls before that nobody took are dropped. */
  #begin<Value, Result>(call: PoolCall<Handle, Value, Result>, values: Iterable<Value>): void {
    this.#waiting.length = 0;
    this.#refs.clear();
    this.#nextTaken = this.#nextIndex;
    for (const value of values) this.submit(call, value);
  }

  #checkNext({ timeoutMs }: { readonly timeoutMs?: number }): void {
    checkTimeout(timeoutMs);
    if (!this.hasNext) throw new ConfigError('pool', 'a pool with a call whose result was not taken', 'none is left');
  }
  #oldestWaiting(): number {
    return this.#waiting[0]?.index ?? this.#nextIndex;
  }

  #pump(): void {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const actor = this.#idle.shift()!;
      const { make, index } = this.#waiting.shift()!;
      const ref = make(actor);
      this.#running.set(ref, { actor, index });
      this.#refs.set(index, ref);
      const free = (): void => {
        this.#running.delete(ref);
        this.#idle.push(actor);
        this.#pump();
      };
      ref.then(free, free);
    }
    for (const go of this.#changed.splice(0)) go();
  }

  async #take(index: number, ref: ObjectRef<unknown>): Promise<unknown> {
    this.#refs.delete(index);
    return await ref;
  }

  async #change(deadline: number | null, timeoutMs = 0): Promise<void> {
    const left = deadline === null ? null : deadline - performance.now();
    if (left !== null && left <= 0) throw new GetTimeoutError({ timeoutMs });
    let timer: NodeJS.Timeout | null = null;
    await new Promise<void>((resolve) => {
      this.#changed.push(resolve);
      if (left !== null) timer = setTimeout(resolve, left);
    });
    if (timer) clearTimeout(timer);
  }
}

const deadlineOf = (timeoutMs: number | undefined): number | null =>
  timeoutMs === undefined ? null : performance.now() + timeoutMs;
const leftOf = (deadline: number | null): { readonly timeoutMs?: number } =>
  deadline === null ? {} : { timeoutMs: Math.max(0, deadline - performance.now()) };
