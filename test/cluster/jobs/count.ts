// A job: adds one to the detached counter of the cluster, making it if nobody has, and prints the count.
import { actor, getActor, init } from 'raylite';
import { Counter } from './counter.js';

await using _cluster = await init({ namespace: 'counting' });
const counter =
  process.argv[2] === 'first'
    ? await actor(Counter, { name: 'counter', lifetime: 'detached' }).create()
    : await getActor<Counter>('counter');
console.log(`count ${await counter.add(1)}`);
