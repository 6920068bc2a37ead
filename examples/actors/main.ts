// Actors, tasks and shared objects. Run it: node --import tsx examples/actors/main.ts
import { actor, get, init, put, task, wait } from 'raylite';
import { Counter, square } from './counter.js';

await using _cluster = await init(); // $RAYLITE_ADDRESS, or a cluster of its own on this machine

const counter = await actor(Counter, { cpus: 1, name: 'hits', maxRestarts: 3 }).create();
const three = counter.add(3); // ObjectRef<number>: await it, or pass it on unfetched
console.log(await three, await get([task(square)(4), task(square)(three)]));

const table = put(new Float32Array(1 << 20).fill(0.5)); // 4 MiB in shared memory: readers map it, nobody copies
console.log((await table).length);

const { ready, rest } = await wait(
  [1, 2, 3].map((x) => task(square)(x)),
  { numReturns: 2 },
);
console.log(ready.length, rest.length);
