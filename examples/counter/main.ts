// Run: npm run build && npx tsx examples/counter/main.ts
import { actor, get, init, task } from 'raylite';
import { Counter, square } from './counter.js';

await using cluster = await init(); // the cluster of $RAYLITE_ADDRESS, else one of our own
console.log(`cluster ${cluster.address}, page ${cluster.httpUrl}`);

const counter = await actor(Counter, { name: 'hits', maxRestarts: 3 }).create();
const ref = counter.add(2); // a ref at once, the value when awaited
console.log('count', await ref);

// A ref passed on is fetched where it is needed, not here.
console.log('squares', await get([task(square)(3), task(square)(ref)]));
