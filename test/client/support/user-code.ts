// What a user of the cluster might write: loaded by workers, exported by name.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import {
  type ActorHandle,
  currentPlacementGroup,
  kvGet,
  kvPut,
  type ObjectRef,
  put,
  runtimeContext,
  task,
} from '#src/client/index.js';

export class Counter {
  #count: number;
  constructor(start: number) {
    if (start < 0) throw new RangeError('the start must not be negative');
    this.#count = start;
  }
  add(amount: number): number {
    this.#count += amount;
    return this.#count;
  }
  pid(): number {
    return process.pid;
  }
  /** The path of the arena that this process has mapped. */
  arena(): Promise<string> {
    put(new Uint8Array(1024 * 1024));
    return new Promise<string>((resolve) => {
      const look = (): void => {
        const path = /\/dev\/shm\/raylite-\S+/.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
        if (path) resolve(path);
        else setImmediate(look);
      };
      look();
    });
  }
  /** Never returns, nor lets anything else in its process run. */
  spin(): never {
    for (;;);
  }
  exit(code: number): never {
    process.exit(code);
  }
}

export const square = (x: number): number => x * x;
export const makes = (length: number): Float32Array => new Float32Array(length).fill(1.5);
export const sumOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);
/** Bytes that look random and are the same for the same seed. */
export function noise(length: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed | 1;
  for (let index = 0; index < words.length; index += 1) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + index;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}
/** As `noise`, and says under `key` on which node and how often it ran. */
export async function notedNoise(length: number, seed: number, key: string): Promise<Uint8Array> {
  const runs = JSON.parse(Buffer.from((await kvGet(key)) ?? []).toString() || '[]') as string[];
  await kvPut(key, Buffer.from(JSON.stringify([...runs, runtimeContext().nodeId])));
  return noise(length, seed);
}
/** As `notedNoise`, of other bytes: each of `bytes`, and one more. */
export async function notedNext(bytes: Uint8Array, key: string): Promise<Uint8Array> {
  await notedNoise(0, 0, key);
  return bytes.map((byte) => byte + 1);
}
/** Noise of the seeds 1 and 2 with a word between them, noted as by `notedNoise`. */
export async function notedPair(length: number, key: string): Promise<[Uint8Array, string, Uint8Array]> {
  await notedNoise(0, 0, key);
  return [noise(length, 1), 'small', noise(length, 2)];
}
/** Noise of the seeds 1, 2, …, noted as by `notedNoise`; each run is noted again as it ends, by how many it has made. */
export async function* notedItems(length: number, count: number, key: string): AsyncGenerator<Uint8Array> {
  await notedNoise(0, 0, key);
  let made = 0;
  try {
    for (; made < count; ) {
      made += 1;
      yield noise(length, made);
    }
  } finally {
    await kvPut(`${key}-made`, Buffer.from(String(made)));
  }
}
/** Gives `count` items the first time that it runs, and one fewer each time after that. */
export async function* notedFewer(length: number, count: number, key: string): AsyncGenerator<Uint8Array> {
  await notedNoise(0, 0, key);
  const runs = JSON.parse(Buffer.from((await kvGet(key)) ?? []).toString()) as string[];
  for (let seed = 1; seed <= count + 1 - runs.length; seed += 1) yield noise(length, seed);
}
export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
export const nested = (x: number): { ref: ObjectRef<number> } => ({ ref: put(x + 1) });
export const nestedLarge = (length: number): { ref: ObjectRef<Float32Array> } => ({ ref: put(makes(length)) });
export const unwraps = async <T>({ ref }: { ref: ObjectRef<T> }): Promise<T> => await ref;
export const delayed = (ms: number, value: number): Promise<number> =>
  new Promise((resolve) => setTimeout(resolve, ms, value));

/** Calls itself as a task, `levels` times. */
export const levelsBelow = async (levels: number): Promise<number> =>
  levels === 0 ? 0 : 1 + (await task(levelsBelow)(levels - 1));

/** Waits, in an actor that has CPUs of its own, for a task that needs one. */
export class Patient {
  readonly #square: number;
  constructor(square: number) {
    this.#square = square;
  }
  async waits(x: number): Promise<number> {
    return this.#square + (await task(square)(x));
  }
}

export const umaskHere = (): number => process.umask();

/** Calls that wait for each other, or for being cancelled. */
export class Meeting {
  #present = 0;
  #most = 0;
  #waiting: (() => void)[] = [];
  #aborted: string[] = [];
  /** Ends when `count` calls are here at a time; gives how many ever were. */
  async meet(count: number): Promise<number> {
    this.#present += 1;
    this.#most = Math.max(this.#most, this.#present);
    const met = new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#present === count) for (const go of this.#waiting.splice(0)) go();
    await met;
    this.#present -= 1;
    return this.#most;
  }
  present(): number {
    return this.#present;
  }
  async holds(): Promise<void> {
    await Promise.resolve();
    const { signal } = runtimeContext();
    if (!signal) throw new Error('a call has no signal');
    await once(signal, 'abort');
    this.#aborted.push(signal.reason.name);
  }
  aborted(): readonly string[] {
    return this.#aborted;
  }
}

export const joins = async (meeting: ActorHandle<Meeting>, count: number): Promise<number> => await meeting.meet(count);

/** Has `bytes` until another comes to the meeting. */
export const meetsWith = async (meeting: ActorHandle<Meeting>, bytes: Uint8Array): Promise<number> => {
  await meeting.meet(2);
  return bytes.length;
};

export function fails(message: string): never {
  throw Object.assign(new RangeError(message, { cause: new Error('root') }), { extra: 1 });
}
export function crash(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('unreachable');
}

export class Maker {
  make(length: number): Uint8Array {
    return noise(length, 1);
  }
}

/** Keeps what it is given: a ref, or the value of one. */
export class Shelf {
  readonly #kept: unknown[] = [];
  /** Keeps the ref inside. */
  keepRef(box: { readonly ref: ObjectRef<unknown> }): void {
    this.#kept.push(box);
  }
  keepValue(value: unknown): void {
    this.#kept.push(value);
  }
  /** Lets nothing else in its process run until `path` exists. */
  sleepUntil(path: string): void {
    const cell = new Int32Array(new SharedArrayBuffer(4));
    while (!existsSync(path)) Atomics.wait(cell, 0, 0, 20);
  }
}
export const nodeOf = (..._args: readonly unknown[]): string => runtimeContext().nodeId;
export const groupOf = async (): Promise<string | null> => (await currentPlacementGroup())?.id ?? null;
/** The placement group that a task started here runs in. */
export const groupOfChild = async (): Promise<string | null> => await task(groupOf)();

/** A call that lasts until it is told to end. */
export class Gate {
  #open!: () => void;
  readonly #opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });
  #isEntered!: () => void;
  readonly #entered = new Promise<void>((resolve) => {
    this.#isEntered = resolve;
  });
  async wait(): Promise<string> {
    this.#isEntered();
    await this.#opened;
    return 'open';
  }
  async noiseOnceOpen(length: number, seed: number): Promise<Uint8Array> {
    await this.wait();
    return noise(length, seed);
  }
  entered(): Promise<void> {
    return this.#entered;
  }
  open(): void {
    this.#open();
  }
}
