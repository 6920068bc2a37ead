// The driver of the broadcast: puts 1 GiB and has a task on each other node read it; says how many GB/s all of them had.
import { get, init, nodes, put, task } from 'raylite';
import { lengthOf } from './broadcast-work.js';

const BYTES = 1024 * 1024 * 1024;

const cluster = await init({ address: 'auto', logToDriver: false });
const others = (await nodes()).filter(({ nodeId }) => nodeId !== cluster.nodeId);
const read = others.map(({ nodeId }) => task(lengthOf, { schedulingStrategy: `node:${nodeId}` }));
await get(read.map((run) => run(Buffer.alloc(1)))); // workers are there, connections too
const large = put(Buffer.alloc(BYTES, 1));
await get(large);
const start = performance.now();
const lengths = await get(read.map((run) => run(large)));
const seconds = (performance.now() - start) / 1000;
if (lengths.some((length) => length !== BYTES)) throw new Error(`read ${lengths.join(', ')} bytes`);
console.log(JSON.stringify({ value: (BYTES * others.length) / 1e9 / seconds, seconds }));
await cluster.close();
