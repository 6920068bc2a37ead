// A job: sends a text to the other node in every way there is, as an argument, an object and a result, and gets it back.
import { init, nodes, put, task } from 'raylite';
import { MARKER, repeat, sizeOf } from './carried.js';

await using cluster = await init();
const other = (await nodes()).find(({ nodeId }) => nodeId !== cluster.nodeId);
if (!other) throw new Error('there is one node only');
const there = { schedulingStrategy: `node:${other.nodeId}` } as const;
const large = put(Buffer.from(MARKER.repeat(200_000)));
const back = await task(repeat, there)(MARKER, 200_000);
console.log(`carried ${await task(sizeOf, there)(large)} there, ${back.length} back`);
