// raylite's side of the core figures: an embedded cluster, one sample per line on standard input, the same work as
// bench/peers/ray_core.py.
import { createInterface } from 'node:readline';
import { actor, get, init, put, task } from 'raylite';
import { SmallActor, smallTask } from './work.js';

const BATCH = 1000;
const SAMPLE_MS = 1000;

const begin = performance.now();
await using _cluster = await init({ address: 'local', numCpus: 2 });
const initSeconds = (performance.now() - begin) / 1000;

const handle = await actor(SmallActor, { cpus: 0 }).create();
await handle.value();
const stored = put(0);
const run = task(smallTask);

const FIGURES: Readonly<Record<string, { readonly count: number; readonly call: () => Promise<unknown> }>> = {
  'actor-sync': { count: 1, call: async () => await handle.value() },
  'actor-async': { count: BATCH, call: () => get(Array.from({ length: BATCH }, () => handle.value())) },
  'task-sync': { count: 1, call: async () => await run() },
  'task-async': { count: BATCH, call: () => get(Array.from({ length: BATCH }, () => run())) },
  'put-small': { count: 1, call: async () => put(0).release() },
  'get-small': { count: 1, call: () => get(stored) },
};

console.log(JSON.stringify({ ready: 'raylite', init_seconds: initSeconds }));
for await (const line of createInterface(process.stdin)) {
  const { count, call } = FIGURES[line.trim()]!;
  let calls = 0;
  const start = performance.now();
  while (performance.now() - start < SAMPLE_MS) {
    await call();
    calls += count;
  }
  console.log(JSON.stringify({ value: calls / ((performance.now() - start) / 1000) }));
}
