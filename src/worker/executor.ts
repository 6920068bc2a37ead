// Runs the calls that come to this process: in the order of each caller once their arguments are there, as many at a time
// as the actor and its groups allow.
import {
  ActorExit,
  type CallRunner,
  loadCode,
  type PeerLink,
  type Runtime,
  runInCall,
} from '../client/process/index.js';
import { ActorDiedError, type ActorId, ConfigError } from '../common/index.js';
import { asError, type wire } from '../protocol/index.js';
import type { Activity } from './activity.js';
import { Answers, crash } from './answers.js';
import type { CpuLoan } from './cpu-loan.js';
import { type Callable, Group, Item } from './item.js';
import { type Instance, Preparation } from './preparation.js';
import { produce } from './producer.js';
import { isThenable, mayWait, notePromise } from './promising.js';

export class Executor implements CallRunner {
  readonly #runtime: Runtime;
  readonly #loan: CpuLoan;
  readonly #preparation: Preparation;
  readonly #answers: Answers;
  readonly #activity: Activity;
  readonly #open = new Map<PeerLink, Map<number, Item>>(); // not answered yet, except those that ran at once
  readonly #groups = new Map<string, Group>();
  #default = new Group(1);
  #instance: Instance | null = null;
  readonly #running = new Set<Item>();
  #starting: Item | null = null; // while its code runs up to the first await
  #isSingle = false; // an actor that runs one call at a time
  #blocked = 0;
  #drained: (() => void) | null = null; // set: no more calls are taken

  constructor(
    runtime: Runtime,
    loan: CpuLoan,
    loadTask: (code: wire.CodeRef.$Properties) => Callable | Promise<Callable>,
    activity: Activity,
  ) {
    this.#runtime = runtime;
    this.#activity = activity;
    this.#loan = loan;
    this.#preparation = new Preparation(runtime, loadTask, () => this.#look());
    this.#answers = new Answers(
      runtime,
      ({ call, from }) => this.#open.get(from)?.delete(call.id),
      (rule) => loadCode(rule, runtime.attached.packageRoot),
    );
  }

  /** From now on calls are of methods of `instance.value`. */
  becomeActor(instance: Instance): void {
    this.#instance = instance;
    this.#default = new Group(instance.maxConcurrency);
    this.#isSingle = instance.maxConcurrency === 1 && Object.keys(instance.groups).length === 0;
    for (const [name, max] of Object.entries(instance.groups)) this.#groups.set(name, new Group(max));
  }

  /** Takes no more calls; resolves when those that came before are answered. */
  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#drained = resolve;
      this.#lookDrained();
    });
  }

  call(call: wire.Call, from: PeerLink): void {
    const item = new Item(call, from, this.#runtime);
    const group = call.concurrencyGroup ? this.#groups.get(call.concurrencyGroup) : this.#default;
    if (!group || this.#drained) {
      this.#refuse(item);
      return;
    }
    const later = this.#preparation.prepare(item, this.#instance);
    const lane = group.lanes.get(from);
    if (!later && !lane) {
      if (this.#hasRoom(group) && group.ready.length === 0) this.#start(item, group);
      else {
        this.#track(item);
        group.ready.push(item);
      }
      return;
    }
    this.#track(item);
    if (this.#instance) {
      const queue = lane ?? [];
      queue.push(item);
      group.lanes.set(from, queue);
      if (!later) item.args ??= [];
    } else if (!later) {
      group.ready.push(item);
      this.#pump(group);
    }
    later
      ?.catch((error: unknown) => {
        item.failure = asError(error);
        item.args = [];
      })
      .then(() => {
        if (this.#instance) this.#advance(group, from);
        else {
          group.ready.push(item);
          this.#pump(group);
        }
      })
      .catch(crash);
  }

  #refuse(item: Item): void {
    const { className } = this.#instance ?? { className: 'task' };
    const actorId = (this.#runtime.actor?.actorId ?? '') as ActorId;
    item.name = `${className}.${item.call.method}`;
    if (this.#drained)
      this.#answers.fail(item, new ActorDiedError({ actorId, className, detail: 'it is being stopped' }));
    else {
      const known = [...this.#groups.keys()].join(', ') || 'none';
      const expected = `one of the concurrencyGroups of ${className} (${known})`;
      this.#answers.fail(item, new ConfigError('concurrencyGroup', expected, item.call.concurrencyGroup));
    }
  }

  cancel({ callId, keepsChildren }: wire.Cancel, from: PeerLink): void {
    this.#open.get(from)?.get(callId)?.cancel(keepsChildren);
  }
  consumed({ callId, count }: wire.Consumed, from: PeerLink): void {
    this.#open.get(from)?.get(callId)?.took(count);
  }

  blocked(delta: 1 | -1): void {
    this.#blocked += delta;
    if (delta > 0) queueMicrotask(() => this.#pump(this.#default));
    else this.#look();
  }

  get current(): Item | null {
    if (this.#starting || this.#running.size !== 1) return this.#starting;
    const [only] = this.#running;
    return only ?? null;
  }
  /** Whether the call that runs is known without carrying it along, which costs more than a short call. */
  #isAlone({ run }: Item): boolean {
    return this.#runtime.isAlone && (this.#isSingle || !mayWait(run!));
  }

  /** An actor's method has the actor to itself, also while it waits; a task lets others run meanwhile. */
  #hasRoom(group: Group): boolean {
    return (this.#instance ? group.running : this.#computing) < group.max;
  }
  /** Calls that run and do not wait. One that waits in several places at a time counts for others too. */
  get #computing(): number {
    return Math.max(0, this.#running.size - this.#blocked);
  }
  /** Lends this worker's CPUs while nothing here can go on. */
  #look(): void {
    this.#loan.update(this.#computing === 0 && (this.#running.size > 0 || this.#preparation.fetching > 0));
  }
  #lookDrained(): void {
    if (this.#drained === null || this.#running.size > 0 || this.#preparation.fetching > 0) return;
    if ([this.#default, ...this.#groups.values()].every(({ ready, lanes }) => ready.length === 0 && lanes.size === 0))
      this.#drained();
  }

  /** Starts the calls at the head of a caller's lane that have their arguments. */
  #advance(group: Group, from: PeerLink): void {
    const lane = group.lanes.get(from);
    while (lane?.[0]?.args) group.ready.push(lane.shift()!);
    if (lane?.length === 0) group.lanes.delete(from);
    this.#pump(group);
  }

  #pump(group: Group): void {
    while (group.ready.length > 0 && this.#hasRoom(group)) this.#start(group.ready.shift()!, group);
    this.#look();
    this.#lookDrained();
  }

  #start(item: Item, group: Group): void {
    if (item.isCancelled) {
      this.#answers.cancelled(item);
      return;
    }
    if (item.failure) {
      this.#answers.fail(item, item.failure);
      return;
    }
    let result: unknown;
    const noted = this.#activity.begin(item.name);
    this.#starting = item;
    try {
      result = this.#isAlone(item)
        ? item.run!.apply(item.self, item.args!)
        : runInCall(item, () => item.run!.apply(item.self, item.args!));
    } catch (error) {
      this.#activity.end(noted, true);
      this.#threw(item, error);
      return;
    } finally {
      this.#starting = null;
    }
    if (item.call.stream) result = produce(item, result, this.#answers);
    if (!isThenable(result)) {
      this.#activity.end(noted, false);
      if (this.#answers.value(item, result) !== null) this.#track(item);
      return;
    }
    notePromise(item.run!);
    group.running += 1;
    this.#running.add(item);
    this.#look();
    this.#track(item);
    Promise.resolve(result)
      .then(
        (value) => {
          this.#activity.end(noted, false);
          return this.#answers.value(item, value);
        },
        (error: unknown) => {
          this.#activity.end(noted, true);
          return this.#threw(item, error);
        },
      )
      .then(() => {
        group.running -= 1;
        this.#running.delete(item);
        this.#pump(group);
      })
      .catch(crash);
  }

  #threw(item: Item, thrown: unknown): void {
    if (thrown instanceof ActorExit && this.#instance) this.#instance.exit();
    else this.#answers.threw(item, thrown);
  }

  #track(item: Item): void {
    let open = this.#open.get(item.from);
    if (!open) {
      open = new Map();
      this.#open.set(item.from, open);
      item.from.stream.onClose(() => {
        // Nobody waits for what this caller asked: what has not begun is dropped.
        for (const waiting of this.#open.get(item.from)?.values() ?? []) waiting.cancel(false);
        this.#open.delete(item.from);
        for (const group of [this.#default, ...this.#groups.values()]) group.lanes.delete(item.from);
      });
    }
    open.set(item.call.id, item);
  }
}
