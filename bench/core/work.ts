// The work of the core figures, that of Ray's own microbenchmark (ray_perf.py): functions and methods that return two bytes.
import { type ActorHandle, get, type ObjectRef, put, task } from 'raylite';

export class SmallActor {
  value(): string {
    return 'ok';
  }
  valueWith(_argument: unknown): string {
    return 'ok';
  }
  /** Starts tasks of its own. */
  async tasks(count: number): Promise<void> {
    await get(Array.from({ length: count }, () => run()));
  }
}

export class AsyncActor {
  async value(): Promise<string> {
    return 'ok';
  }
  async valueWith(_argument: unknown): Promise<string> {
    return 'ok';
  }
}

type Server = ActorHandle<SmallActor> | ActorHandle<AsyncActor>;

/** Calls other actors. */
export class Client {
  readonly #servers: readonly ActorHandle<SmallActor>[];

  constructor(servers: readonly Server[]) {
    this.#servers = servers as readonly ActorHandle<SmallActor>[];
  }
  async calls(count: number): Promise<void> {
    await get(this.#servers.flatMap((server) => Array.from({ length: count }, () => server.value())));
  }
  async callsWithArgument(count: number): Promise<void> {
    const argument = put(0);
    await get(this.#servers.flatMap((server) => Array.from({ length: count }, () => server.valueWith(argument))));
  }
}

export function smallTask(): string {
  return 'ok';
}
const run = task(smallTask);

/** Calls actors in turn. */
export async function callsInTurn(servers: readonly Server[], count: number): Promise<void> {
  const each = servers as readonly ActorHandle<SmallActor>[];
  await get(Array.from({ length: count }, (_, index) => each[index % each.length]!.value()));
}

export function putsSmall(count: number): void {
  for (let index = 0; index < count; index += 1) put(0).release();
}

export function putsLarge(count: number, bytes: number): void {
  for (let index = 0; index < count; index += 1) put(new Float64Array(bytes / 8)).release();
}

export const manyRefs = (count: number): ObjectRef<number>[] => Array.from({ length: count }, () => put(1));
