// A driver with a busy actor, to be killed: tells its parent where its arena is.
import { actor, init } from '#src/client/index.js';
import { Counter } from './user-code.js';

await init({ numCpus: 1, objectStoreMemory: 64 * 1024 * 1024, logToDriver: false });
const counter = await actor(Counter).create(0);
const arena = await counter.arena();
process.send?.({ arena });
counter.spin();
setInterval(() => {}, 1_000);
