// raylite's side of each line: what it needs, made when it is first asked for, and one round of its work.
import { type ActorHandle, actor, get, init, kill, placementGroup, put, task, wait } from 'raylite';
import { descendants, memoryMiB } from './memory.js';
import { AsyncActor, Client, callsInTurn, manyRefs, putsLarge, putsSmall, SmallActor, smallTask } from './work.js';

/** One round counts for `count` operations; without `count` it says itself what was measured. */
export interface Line {
  readonly count?: number;
  readonly round: () => Promise<unknown>;
}

const BATCH = 1000;
const LARGE_BYTES = 800 * 2 ** 20;

const small = (maxConcurrency = 1): Promise<ActorHandle<SmallActor>> =>
  actor(SmallActor, { cpus: 0, maxConcurrency }).create();
const async = (): Promise<ActorHandle<AsyncActor>> => actor(AsyncActor, { cpus: 0, maxConcurrency: 1000 }).create();
const clientOf = (...servers: readonly (ActorHandle<SmallActor> | ActorHandle<AsyncActor>)[]) =>
  actor(Client, { cpus: 0 }).create(servers);
const run = task(smallTask);
const batchOf = (call: (index: number) => PromiseLike<unknown>) =>
  get(Array.from({ length: BATCH }, (_, i) => call(i) as never));

/** By the names in lower case that `ray microbenchmark` prints. */
export const LINES: Readonly<Record<string, () => Promise<Line>>> = {
  'single client get calls (Plasma Store)': async () => {
    const stored = put(0);
    return { count: 1, round: () => get(stored) };
  },
  'single client put calls (Plasma Store)': async () => ({ count: 1, round: async () => put(0).release() }),
  'multi client put calls (Plasma Store)': async () => {
    const puts = task(putsSmall);
    return { count: 1000, round: () => get(Array.from({ length: 10 }, () => puts(100))) };
  },
  'single client put gigabytes': async () => {
    const array = new Float64Array(LARGE_BYTES / 8);
    return { count: LARGE_BYTES / 1e9, round: async () => put(array).release() };
  },
  'multi client put gigabytes': async () => {
    const puts = task(putsLarge);
    const count = (10 * LARGE_BYTES) / 1e9;
    return { count, round: () => get(Array.from({ length: 10 }, () => puts(10, LARGE_BYTES / 10))) };
  },
  'single client tasks and get batch': async () => ({ count: 1, round: () => batchOf(() => run()) }),
  'single client get object containing 10k refs': async () => {
    const holder = task(manyRefs)(10_000);
    return { count: 1, round: () => get(holder) };
  },
  'single client wait 1k refs': async () => ({
    count: 1,
    round: async () => {
      let rest = Array.from({ length: 1000 }, () => run());
      while (rest.length > 0) ({ rest } = await wait(rest));
    },
  }),
  'single client tasks sync': async () => ({ count: 1, round: async () => await run() }),
  'single client tasks async': async () => ({ count: BATCH, round: () => batchOf(() => run()) }),
  'multi client tasks async': async () => {
    const actors = await Promise.all([small(), small(), small(), small()]);
    return { count: 4 * BATCH, round: () => get(actors.map((each) => each.tasks(BATCH))) };
  },
  '1:1 actor calls sync': async () => {
    const server = await small();
    return { count: 1, round: async () => await server.value() };
  },
  '1:1 actor calls async': async () => {
    const server = await small();
    return { count: BATCH, round: () => batchOf(() => server.value()) };
  },
  '1:1 actor calls concurrent': async () => {
    const server = await small(16);
    return { count: BATCH, round: () => batchOf(() => server.value()) };
  },
  '1:n actor calls async': async () => {
    const client = await clientOf(await small());
    return { count: 5000, round: async () => await client.calls(5000) };
  },
  'n:n actor calls async': async () => {
    const servers = [await small()];
    const work = task(callsInTurn);
    return { count: 4 * 5000, round: () => get(Array.from({ length: 4 }, () => work(servers, 5000))) };
  },
  'n:n actor calls with arg async': async () => {
    const client = await clientOf(await small());
    return { count: BATCH, round: async () => await client.callsWithArgument(BATCH) };
  },
  '1:1 async-actor calls sync': async () => {
    const server = await async();
    return { count: 1, round: async () => await server.value() };
  },
  '1:1 async-actor calls async': async () => {
    const server = await async();
    return { count: BATCH, round: () => batchOf(() => server.value()) };
  },
  '1:1 async-actor calls with args async': async () => {
    const server = await async();
    return { count: BATCH, round: () => batchOf((index) => server.valueWith(index)) };
  },
  '1:n async-actor calls async': async () => {
    const client = await clientOf(await async());
    return { count: 5000, round: async () => await client.calls(5000) };
  },
  'n:n async-actor calls async': async () => {
    const servers = [await async()];
    const work = task(callsInTurn);
    return { count: 4 * 5000, round: () => get(Array.from({ length: 4 }, () => work(servers, 5000))) };
  },
  'placement group create/removal': async () => ({
    count: 100,
    round: async () => {
      const groups = await Promise.all(
        Array.from({ length: 100 }, () => placementGroup({ bundles: [{ resources: { custom: 0.001 } }] })),
      );
      await Promise.all(groups.map((group) => group.ready()));
      await Promise.all(groups.map((group) => group.remove()));
    },
  }),
  'actors created, called and killed': async () => ({
    count: 8,
    round: async () => {
      const actors = await Promise.all(Array.from({ length: 8 }, () => small()));
      await get(actors.map((each) => each.value()));
      for (const each of actors) await kill(each);
    },
  }),
  'one actor created and called': async () => ({
    round: async () => {
      const begin = performance.now();
      const server = await small();
      await server.value();
      const ms = performance.now() - begin;
      await kill(server);
      return ms;
    },
  }),
  '1:1 actor call, median': async () => percentile(0.5),
  '1:1 actor call, 99th percentile': async () => percentile(0.99),
  '100k queued tasks': async () => ({
    round: async () => {
      const begin = performance.now();
      await get(Array.from({ length: 100_000 }, () => run()));
      return (performance.now() - begin) / 1000;
    },
  }),
  'memory of an idle cluster': async () => ({ round: async () => memoryMiB(descendants(process.pid)) }),
  'memory of the head': async () => ({
    round: async () => memoryMiB(descendants(process.pid).filter(({ command }) => command.includes('/head/main.js'))),
  }),
};

/** µs of one call of 2,000, one after the other. */
async function percentile(share: number): Promise<Line> {
  const server = await small();
  return {
    round: async () => {
      const times: number[] = [];
      for (let index = 0; index < 2000; index += 1) {
        const begin = performance.now();
        await server.value();
        times.push(performance.now() - begin);
      }
      return 1000 * times.sort((a, b) => a - b)[Math.floor(share * times.length)]!;
    },
  };
}

export const startCluster = () => init({ address: 'local', numCpus: 2, resources: { custom: 100 } });
