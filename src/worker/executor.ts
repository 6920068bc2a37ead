// Runs the calls that come to this process: in the order of each caller once their arguments are there, as many at a time
// as the actor allows; answers with values, places or errors.

import {
  type CallContext,
  type CallRunner,
  copied,
  INLINE_BYTES_MAX,
  layoutValue,
  ObjectRef,
  type PeerLink,
  type Runtime,
  runInCall,
} from '../client/process/index.js';
import {
  CancelledError,
  type NodeId,
  type ObjectId,
  objectIdOf,
  RayliteError,
  TaskError,
  type WorkerId,
} from '../common/index.js';
import { asError, decodeValue, failureOf, type wire } from '../protocol/index.js';
import type { CpuLoan } from './cpu-loan.js';

type Callable = (...args: unknown[]) => unknown;

/** A call that came, from its arrival to its answer. */
class Item implements CallContext {
  readonly call: wire.Call;
  readonly from: PeerLink;
  args: unknown[] | null = null; // null while they are fetched
  run: Callable | null = null;
  self: unknown = undefined;
  name = '';
  failure: Error | null = null;
  isApplicationFailure = false;
  acks: Promise<unknown> | null = null;
  isCancelled = false;
  #abort: AbortController | null = null; // made when its code asks for it

  constructor(call: wire.Call, from: PeerLink) {
    this.call = call;
    this.from = from;
  }
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.isCancelled) this.#abort.abort(new CancelledError({ taskId: null }));
    return this.#abort.signal;
  }
  cancel(): void {
    this.isCancelled = true;
    this.#abort?.abort(new CancelledError({ taskId: null }));
  }
}

const NO_REFS: readonly never[] = [];

export class Executor implements CallRunner {
  readonly #runtime: Runtime;
  readonly #loan: CpuLoan;
  readonly #loadTask: (code: wire.CodeRef.$Properties) => Callable | Promise<Callable>;
  readonly #lanes = new Map<PeerLink, Item[]>(); // actors: calls of one caller that wait for arguments, in order
  readonly #ready: Item[] = [];
  readonly #open = new Map<PeerLink, Map<number, Item>>(); // not answered yet, except those that ran at once
  #instance: { readonly value: object; readonly className: string } | null = null;
  #maxConcurrency = 1;
  #running = 0;
  #blocked = 0;
  #fetching = 0; // calls that wait for their arguments

  constructor(
    runtime: Runtime,
    loan: CpuLoan,
    loadTask: (code: wire.CodeRef.$Properties) => Callable | Promise<Callable>,
  ) {
    this.#runtime = runtime;
    this.#loan = loan;
    this.#loadTask = loadTask;
  }

  /** From now on calls are of methods of `value`. */
  becomeActor(value: object, className: string, maxConcurrency: number): void {
    this.#instance = { value, className };
    this.#maxConcurrency = Math.max(1, maxConcurrency);
  }

  call(call: wire.Call, from: PeerLink): void {
    const item = new Item(call, from);
    const later = this.#prepare(item);
    const lane = this.#lanes.get(from);
    if (!later && !lane) {
      if (this.#hasRoom && this.#ready.length === 0) this.#start(item);
      else this.#wait(item);
      return;
    }
    this.#track(item);
    if (this.#instance) {
      const queue = lane ?? [];
      queue.push(item);
      this.#lanes.set(from, queue);
      if (!later) item.args ??= [];
    }
    later
      ?.catch((error: unknown) => {
        item.failure = asError(error);
        item.args = [];
      })
      .then(() => {
        if (this.#instance) this.#advance(from);
        else {
          this.#ready.push(item);
          this.#pump();
        }
      })
      .catch(crash);
    if (!later && !this.#instance) {
      this.#ready.push(item);
      this.#pump();
    }
  }

  cancel(callId: number, from: PeerLink): void {
    const item = this.#open.get(from)?.get(callId);
    item?.cancel();
  }

  blocked(delta: 1 | -1): void {
    this.#blocked += delta;
    if (delta > 0) queueMicrotask(() => this.#pump());
    else this.#look();
  }

  /** An actor's method has the actor to itself, also while it waits; a task lets others run meanwhile. */
  get #hasRoom(): boolean {
    return (this.#instance ? this.#running : this.#computing) < this.#maxConcurrency;
  }
  /** Calls that run and do not wait. One that waits in several places at a time counts for others too. */
  get #computing(): number {
    return Math.max(0, this.#running - this.#blocked);
  }
  /** Lends this worker's CPUs while nothing here can go on. */
  #look(): void {
    this.#loan.update(this.#computing === 0 && (this.#running > 0 || this.#fetching > 0));
  }

  /** Finds what to run and decodes the arguments; returns a promise when that has to wait. */
  #prepare(item: Item): Promise<void> | null {
    const { call } = item;
    let loading: Promise<void> | null = null;
    try {
      if (this.#instance) {
        const { value, className } = this.#instance;
        item.name = `${className}.${call.method}`;
        const method = (value as Record<string, unknown>)[call.method];
        if (typeof method !== 'function' || call.method === 'constructor' || call.method in Object.prototype)
          throw new TypeError(`${className} has no method ${JSON.stringify(call.method)}`);
        item.run = method as Callable;
        item.self = value;
      } else {
        item.name = call.code?.name ?? 'task';
        const run = this.#loadTask(call.code ?? {});
        if (run instanceof Promise) {
          loading = run.then((loaded) => {
            item.run = loaded;
          });
        } else item.run = run;
      }
      const args = this.#decode(call.args, item);
      if (!(args instanceof Promise)) {
        item.args = args;
        return loading;
      }
      return Promise.all([loading, args]).then(([, values]) => {
        item.args = values;
      });
    } catch (error) {
      item.failure = asError(error);
      item.args = [];
      return null;
    }
  }

  #decode(args: readonly wire.Argument.$Properties[], item: Item): unknown[] | Promise<unknown[]> {
    const runtime = this.#runtime;
    let waits = false;
    const values = args.map((arg) => {
      if (arg.ref) {
        waits = true;
        return runtime.fetch(ObjectRef.stateOf(runtime.importRef(arg.ref)));
      }
      const { body, buffers, refs } = arg.inline ?? {};
      const nested = refs?.length ? runtime.importRefs(refs) : NO_REFS;
      return decodeValue(body ?? NIL, buffers ?? [], nested, runtime, false);
    });
    if (runtime.isBorrowing) item.acks = runtime.borrowed();
    return waits ? this.#fetched(Promise.all(values)) : values;
  }

  async #fetched<T>(args: Promise<T>): Promise<T> {
    this.#fetching += 1;
    this.#look();
    try {
      return await args;
    } finally {
      this.#fetching -= 1;
      this.#look();
    }
  }

  /** Starts the calls at the head of a caller's lane that have their arguments. */
  #advance(from: PeerLink): void {
    const lane = this.#lanes.get(from);
    while (lane?.[0]?.args) this.#ready.push(lane.shift()!);
    if (lane?.length === 0) this.#lanes.delete(from);
    this.#pump();
  }

  #wait(item: Item): void {
    this.#track(item);
    this.#ready.push(item);
  }

  #pump(): void {
    while (this.#ready.length > 0 && this.#hasRoom) this.#start(this.#ready.shift()!);
    this.#look();
  }

  #start(item: Item): void {
    if (item.isCancelled) {
      this.#fail(item, new CancelledError({ taskId: null }));
      return;
    }
    if (item.failure) {
      this.#fail(item, item.failure);
      return;
    }
    let result: unknown;
    try {
      result = runInCall(item, () => item.run!.apply(item.self, item.args!));
    } catch (error) {
      this.#threw(item, error);
      return;
    }
    if (!isThenable(result)) {
      this.#answer(item, result);
      return;
    }
    this.#running += 1;
    this.#look();
    this.#track(item);
    Promise.resolve(result)
      .then(
        (value) => this.#answer(item, value),
        (error: unknown) => this.#threw(item, error),
      )
      .then(() => {
        this.#running -= 1;
        this.#pump();
      })
      .catch(crash);
  }

  #answer(item: Item, value: unknown): void {
    if (item.isCancelled) {
      this.#fail(item, new CancelledError({ taskId: null }));
      return;
    }
    const runtime = this.#runtime;
    const { call, from } = item;
    if (from.stream.isClosed) return; // nobody would own what is made here
    try {
      const sendable = runtime.encode(value, 'result', item.name);
      if (sendable.bytes <= INLINE_BYTES_MAX) {
        this.#send(item, { inline: copied(sendable.encoded) }, sendable.bytes, sendable.refs);
        return;
      }
      const owner = (from.peer.workerId ?? '') as WorkerId;
      const objectId: ObjectId = objectIdOf(owner, call.returnSequence);
      const layout = layoutValue(sendable.encoded);
      const refs = sendable.encoded.refs as wire.Ref.$Properties[];
      const there = runtime.store.tryWrite(objectId, owner, layout);
      if (there) this.#send(item, { location: there, refs }, 0, sendable.refs);
      else {
        const kept = { ...layout, parts: layout.parts.map(({ at, bytes }) => ({ at, bytes: new Uint8Array(bytes) })) };
        this.#track(item);
        runtime.store.write(objectId, owner, kept).then(
          (location) => this.#send(item, { location, refs }, 0, sendable.refs),
          (error: unknown) => this.#fail(item, asError(error)),
        );
      }
    } catch (error) {
      this.#fail(item, asError(error));
    }
  }

  /** User code threw: the caller gets a TaskError around it. */
  #threw(item: Item, thrown: unknown): void {
    if (item.isCancelled) {
      this.#fail(item, new CancelledError({ taskId: null }));
      return;
    }
    const { workerId, nodeId } = this.#runtime;
    item.isApplicationFailure = true;
    const facts = { functionName: item.name, workerId: workerId as WorkerId, nodeId: nodeId as NodeId };
    this.#fail(item, new TaskError(facts, { cause: asError(thrown) }));
  }

  #fail(item: Item, error: Error): void {
    const isOurs = error instanceof RayliteError;
    const { workerId, nodeId } = this.#runtime;
    const shown = isOurs ? error : new TaskError({ functionName: item.name, workerId, nodeId }, { cause: error });
    this.#send(item, { failure: failureOf(shown, item.isApplicationFailure) }, 0, NO_REFS);
  }

  #send(
    item: Item,
    result: Omit<wire.Result.$Properties, 'callId'>,
    bytes: number,
    refs: readonly ObjectRef<unknown>[],
  ): void {
    const { call, from } = item;
    this.#open.get(from)?.delete(call.id);
    if (item.acks !== null) item.acks.then(() => from.answer(call.id, result, bytes, refs)).catch(crash);
    else from.answer(call.id, result, bytes, refs);
  }

  #track(item: Item): void {
    let open = this.#open.get(item.from);
    if (!open) {
      open = new Map();
      this.#open.set(item.from, open);
      item.from.stream.onClose(() => {
        // Nobody waits for what this caller asked: what has not begun is dropped.
        for (const waiting of this.#open.get(item.from)?.values() ?? []) waiting.cancel();
        this.#open.delete(item.from);
        this.#lanes.delete(item.from);
      });
    }
    open.set(item.call.id, item);
  }
}

const NIL = new Uint8Array([0xc0]);

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';

/** A bug of ours: the process ends with its stack, as after any uncaught error. */
const crash = (error: unknown): void => {
  setImmediate(() => {
    throw error;
  });
};
