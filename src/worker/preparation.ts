// From a call's message to what can run: its code found, its arguments decoded, and fetched where they are objects.
import type { Runtime } from '../client/process/index.js';
import { asError, type wire } from '../protocol/index.js';
import type { Callable, Item } from './item.js';

/** The object whose methods are called, and how. */
export interface Instance {
  readonly value: object;
  readonly className: string;
  readonly maxConcurrency: number;
  readonly groups: Readonly<Record<string, number>>;
  /** Its code asked for its end. */
  readonly exit: () => void;
}

export class Preparation {
  readonly #runtime: Runtime;
  readonly #loadTask: (code: wire.CodeRef.$Properties) => Callable | Promise<Callable>;
  readonly #changed: () => void;
  #fetching = 0;

  /** @param changed hears that `fetching` is another */
  constructor(
    runtime: Runtime,
    loadTask: (code: wire.CodeRef.$Properties) => Callable | Promise<Callable>,
    changed: () => void,
  ) {
    this.#runtime = runtime;
    this.#loadTask = loadTask;
    this.#changed = changed;
  }

  /** Calls that wait for their arguments. */
  get fetching(): number {
    return this.#fetching;
  }

  /**
   * Gives `item` its code (a method of `instance`, or a task's) and its arguments, or its failure; returns a promise when that has
   * to wait.
   */
  prepare(item: Item, instance: Instance | null): Promise<void> | null {
    const { call } = item;
    let loading: Promise<void> | null = null;
    try {
      if (instance) {
        const { value, className } = instance;
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
      if (arg.ref) waits = true;
      return runtime.reader.argument(arg);
    });
    if (runtime.values.isBorrowing) item.acks = runtime.values.borrowed();
    return waits ? this.#fetched(Promise.all(values)) : values;
  }

  async #fetched<T>(args: Promise<T>): Promise<T> {
    this.#fetching += 1;
    this.#changed();
    try {
      return await args;
    } finally {
      this.#fetching -= 1;
      this.#changed();
    }
  }
}
