// What the tests of calls run on the cluster: generators, several returns, actors with groups and hooks, what fails and is tried again.
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import {
  type ActorHandle,
  actor,
  exitActor,
  get,
  type ObjectRef,
  put,
  Queue,
  runtimeContext,
  task,
} from '#src/client/index.js';

/** A line in a file that tests read: what happened, in which order, in whatever process. */
export const note = (file: string, line: string): void => appendFileSync(file, `${line}\n`);
export const notes = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
/** Waits until the file has `count` lines. */
export async function noted(file: string, count: number): Promise<string[]> {
  while (notes(file).length < count) await new Promise((resolve) => setTimeout(resolve, 5));
  return notes(file);
}

export const pidHere = (): number => process.pid;
/** Runs a task of its own. */
export class Asker {
  async pidOfTask(): Promise<number> {
    return await task(pidHere)();
  }
}

export function* countTo(count: number): Generator<number, string> {
  for (let x = 1; x <= count; x += 1) yield x;
  return 'unused';
}
export async function* letters(text: string): AsyncGenerator<string> {
  for (const letter of text) {
    await Promise.resolve();
    yield letter;
  }
}
export const listOf = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Notes each item before it yields it, and its end. */
export async function* noting(file: string, count: number): AsyncGenerator<number> {
  try {
    for (let x = 1; x <= count; x += 1) {
      note(file, `made ${x}`);
      yield x;
    }
  } finally {
    note(file, 'ended');
  }
}
export async function* stumbles(count: number): AsyncGenerator<number> {
  for (let x = 1; x <= count; x += 1) yield x;
  throw new RangeError('stumbled');
}
/** Ends its process after two items, the first time. */
export async function* crashesOnce(file: string, count: number): AsyncGenerator<number> {
  for (let x = 1; x <= count; x += 1) {
    if (x === 3 && !existsSync(file)) {
      writeFileSync(file, '');
      await new Promise((resolve) => setTimeout(resolve, 100)); // what was yielded is on its way
      process.kill(process.pid, 'SIGKILL');
    }
    yield x;
  }
}
export function* blocks(count: number): Generator<Float32Array> {
  for (let x = 0; x < count; x += 1) yield new Float32Array(50_000).fill(x);
}
export function* refsIn(count: number): Generator<{ ref: ObjectRef<number> }> {
  for (let x = 0; x < count; x += 1) yield { ref: put(x) };
}
export async function* forever(): AsyncGenerator<number> {
  for (let x = 0; ; x += 1) yield x;
}

export const divide = (a: number, b: number): [number, number] => [Math.floor(a / b), a % b];
export const twoLarge = (): [Float32Array, string] => [new Float32Array(100_000).fill(2), 'small'];

export class Busy extends Error {}
export class VeryBusy extends Busy {}
export const isBusy = (error: unknown): boolean => error instanceof Busy;
/** Throws until it was called `times` times. */
export function busyFor(file: string, times: number): number {
  note(file, 'called');
  if (notes(file).length <= times) throw new VeryBusy('come back');
  return notes(file).length;
}

/** Waits for its cancellation and notes it. */
export async function waits(file: string, name: string): Promise<void> {
  note(file, `${name} began`);
  await Promise.resolve();
  const { signal } = runtimeContext();
  await once(signal!, 'abort');
  note(file, `${name} was cancelled`);
}
export async function waitsAbove(file: string): Promise<void> {
  const child = task(waits, { cpus: 0 })(file, 'child');
  await Promise.all([waits(file, 'parent'), child.then(null, () => {})]);
}
export function spins(file: string): never {
  note(file, 'spinning');
  for (;;);
}
export const order = (file: string, name: string): void => note(file, name);
export const holdsUntil = async (file: string): Promise<void> => {
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
};

export class Station {
  readonly #file: string;
  #present = 0;
  #most = 0;
  readonly #open = new Set<() => void>();
  constructor(file = '') {
    this.#file = file;
  }
  /** Waits until `release`; gives how many waited at a time at most. */
  async waits(): Promise<number> {
    this.#present += 1;
    this.#most = Math.max(this.#most, this.#present);
    await new Promise<void>((resolve) => this.#open.add(resolve));
    this.#present -= 1;
    return this.#most;
  }
  present(): number {
    return this.#present;
  }
  release(): void {
    for (const go of this.#open) go();
    this.#open.clear();
  }
  *count(to: number): Generator<number> {
    for (let x = 1; x <= to; x += 1) yield x;
  }
  pair(): [number, string] {
    return [1, 'one'];
  }
  leave(): never {
    exitActor();
  }
  async slow(ms: number): Promise<string> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    note(this.#file, 'slow done');
    return 'slow';
  }
  busy(times: number): number {
    return busyFor(this.#file, times);
  }
  onExit(): void {
    note(this.#file, 'onExit');
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve();
    note(this.#file, 'disposed');
  }
}
export const callsByName = async (station: ActorHandle<Station>): Promise<number[]> => {
  const values: number[] = [];
  for await (const ref of station.count(3)) values.push(await ref);
  return values;
};
/** Makes a detached actor and ends. */
export const leavesBehind = async (name: string): Promise<void> => {
  await actor(Station, { name, lifetime: 'detached', namespace: 'shared' }).create();
};
export const sumRefs = async (refs: ObjectRef<number>[]): Promise<number> =>
  (await get(refs)).reduce((sum, x) => sum + x, 0);

/** Takes `count` items from a queue and puts their sum into another. */
export const sumsInto = async (
  from: Queue<number>['handle'],
  to: Queue<number>['handle'],
  count: number,
): Promise<void> => {
  const values = await Queue.of<number>(from).getBatch(count);
  await Queue.of<number>(to).put(values.reduce((sum, x) => sum + x, 0));
};
/** Gives what it is given, after as many milliseconds. */
export class Echo {
  async after(ms: number): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (ms === 13) throw new RangeError('unlucky');
    return ms;
  }
}
