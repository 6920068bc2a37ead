// A driver that has a large object made on another node, and is killed then: `remote-driver.js HEAD NODE`.
import { init, task, wait } from '#src/client/index.js';
import { makes } from './user-code.js';

const [, , address, nodeId] = process.argv;
await init({ address: address ?? '', logToDriver: false });
const made = task(makes, { schedulingStrategy: `node:${nodeId}` })(4_000_000);
await wait([made]);
process.send?.('made');
setInterval(() => made, 1_000);
