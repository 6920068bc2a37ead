// raylite's side of the store figures: an embedded cluster with a store of so many MiB, one sample per line on standard input,
// the same work as bench/peers/ray_store.py.
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { get, init, type ObjectRef, put, wait } from 'raylite';

const MIB = 1024 * 1024;
const LARGE_BYTES = 800 * MIB;
const SPILLED_BYTES = 256 * MIB;
const SPILLED_COUNT = 8;
const GETS = 200;

await using _cluster = await init({ address: 'local', numCpus: 2, objectStoreMemory: Number(process.argv[2]) * MIB });
const value = new Float64Array(LARGE_BYTES / 8);
const seconds = (start: number) => (performance.now() - start) / 1000;

async function largePut(): Promise<number> {
  const start = performance.now();
  const ref = put(value);
  await get(ref);
  const speed = value.byteLength / 1e9 / seconds(start);
  ref.release();
  await collected();
  return speed;
}

/** The mean of many, in microseconds: each is a mapping made and let go of. */
async function largeGet(): Promise<number> {
  const ref = put(value);
  await get(ref);
  const start = performance.now();
  for (let round = 0; round < GETS; round += 1) await get(ref);
  const mean = (seconds(start) / GETS) * 1e6;
  ref.release();
  await collected();
  return mean;
}

/** Bytes that went to disk and came back, by the time of both: twice what the store holds is put, then read in order. */
async function spillRestore(): Promise<number> {
  const part = value.subarray(0, SPILLED_BYTES / 8);
  const start = performance.now();
  let refs: ObjectRef<Float64Array>[] = [];
  for (let at = 0; at < SPILLED_COUNT; at += 1) {
    refs.push(put(part));
    await wait(refs, { numReturns: refs.length });
  }
  for (const ref of refs) {
    await get(ref);
    await collected();
  }
  const speed = (SPILLED_BYTES * SPILLED_COUNT) / 1e9 / seconds(start);
  for (const ref of refs) ref.release();
  refs = [];
  await collected();
  return speed;
}

/** Views are let go of by the garbage collector. */
async function collected(): Promise<void> {
  globalThis.gc?.();
  await sleep(1);
}

const FIGURES: Readonly<Record<string, () => Promise<number>>> = {
  'large-put': largePut,
  'large-get': largeGet,
  'spill-restore': spillRestore,
};

console.log(JSON.stringify({ ready: 'raylite' }));
for await (const line of createInterface(process.stdin)) {
  console.log(JSON.stringify({ value: await FIGURES[line.trim()]!() }));
}
