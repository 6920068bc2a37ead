// raylite's side of the core figures: an embedded cluster, the name of a line per line on standard input, one sample each;
// the same work as bench/peers/ray_core.py.
import { createInterface } from 'node:readline';
import { LINES, type Line, startCluster } from './lines.js';

const SAMPLE_MS = 1000;

const begin = performance.now();
const cluster = await startCluster();
const initSeconds = (performance.now() - begin) / 1000;
console.log(JSON.stringify({ ready: 'raylite', init_seconds: initSeconds }));

const lines = new Map<string, Line>();
for await (const name of createInterface(process.stdin)) {
  const line = lines.get(name) ?? (await LINES[name]!());
  lines.set(name, line);
  console.log(JSON.stringify({ value: await sample(line) }));
}
await cluster.close();

async function sample({ count, round }: Line): Promise<unknown> {
  if (count === undefined) return round();
  let done = 0;
  const start = performance.now();
  while (performance.now() - start < SAMPLE_MS) {
    await round();
    done += count;
  }
  return done / ((performance.now() - start) / 1000);
}
