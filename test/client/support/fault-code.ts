// What the driver of the fault tests runs on the cluster: work of which a test can tell afterwards how often it was done.
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { get, type ObjectRef, put, runtimeContext, task } from '#src/client/index.js';

const LARGE = 200_000;

/** Writes `key` into `file`: this ran. */
export const note = (file: string, key: string): string => {
  appendFileSync(file, `${key}\n`);
  return key;
};
export class Noting {
  note(file: string, key: string): string {
    return note(file, key);
  }
}
export const large = (value: number): Float32Array => new Float32Array(LARGE).fill(value);
export const largeAndSmall = (value: number): [Float32Array, string] => [large(value), 'small'];
export const sumOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);
export function* items(count: number): Generator<number> {
  for (let x = 0; x < count; x += 1) yield x;
}
export function* refItems(count: number): Generator<{ ref: ObjectRef<number> }> {
  for (let x = 0; x < count; x += 1) yield { ref: put(x) };
}
export const refs = (): ObjectRef<number>[] => [put(1)];
export class Shelf {
  readonly #kept: ObjectRef<number>[] = [];
  keep(refs: ObjectRef<number>[]): number {
    this.#kept.push(...refs);
    return this.#kept.length;
  }
  async read(): Promise<number[]> {
    return await get(this.#kept);
  }
  gives(value: number): { ref: ObjectRef<number>; large: ObjectRef<Float32Array> } {
    return { ref: put(value), large: put(large(value)) };
  }
}
export class Unborn {
  constructor() {
    throw new RangeError('not today');
  }
}
export async function untilCancelled(file: string, key: string): Promise<never> {
  note(file, key);
  const { signal } = runtimeContext();
  for (;;) {
    await sleep(10);
    signal?.throwIfAborted();
  }
}
export function crash(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('unreachable');
}
/** Calls itself as a task, `levels` times. */
export const levelsBelow = async (levels: number): Promise<number> =>
  levels === 0 ? 0 : 1 + (await task(levelsBelow)(levels - 1));
export const says = (text: string): void => console.log(text);
