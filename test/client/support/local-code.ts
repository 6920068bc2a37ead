// What the tests of local mode run: code that would change what it is given, says where it runs, and goes on when killed.
import { exitActor, runtimeContext, task } from '#src/client/index.js';

export const changes = (value: { count: number; readonly bytes: Uint8Array }): typeof value => {
  value.count += 1;
  value.bytes.fill(7);
  return value;
};
export function throws(): never {
  throw Object.assign(new RangeError('too far'), { limit: 3 });
}
export const place = (): { workerId: string; isDriver: boolean; hasSignal: boolean } => {
  const { workerId, isDriver, signal } = runtimeContext();
  return { workerId, isDriver, hasSignal: signal !== null };
};
export const below = async (levels: number): Promise<number> =>
  levels === 0 ? 0 : 1 + (await task(below)(levels - 1));
export const untilCancelled = (): Promise<string> =>
  new Promise((resolve) => {
    runtimeContext().signal?.addEventListener('abort', () => {
      heard.add('abort');
      resolve('ended');
    });
  });
/** Shared with the test, since modules are in local mode. */
export const heard = new Set<string>();

export async function* count(to: number): AsyncGenerator<number> {
  for (let x = 0; x < to; x += 1) {
    await Promise.resolve();
    yield x;
  }
}

export class Tally {
  readonly #seen: number[] = [];
  readonly signalInConstructor = runtimeContext().signal;
  async add(x: number): Promise<readonly number[]> {
    await new Promise((resolve) => setTimeout(resolve, 5 - x));
    this.#seen.push(x);
    return this.#seen;
  }
  context(): { actorId: string | undefined; hadSignal: boolean } {
    return { actorId: runtimeContext().actor?.actorId, hadSignal: this.signalInConstructor !== null };
  }
  leave(): never {
    exitActor();
  }
  onExit(): void {
    heard.add(`exit of ${runtimeContext().actor?.actorId}`);
  }
}
