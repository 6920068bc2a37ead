// A cluster of two nodes for the tests of runs that outlive one of them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { init } from '#src/client/index.js';
import { TestNodes, TOKEN } from '../client/support/nodes.js';

/** A cluster of two nodes with two CPUs each, and a folder. */
export async function onTwoNodes(use: (nodes: TestNodes, storage: string) => Promise<void>): Promise<void> {
  const storage = await mkdtemp(join(tmpdir(), 'raylite-elastic-'));
  const nodes = new TestNodes({ here: {}, there: {} }, 128 * 2 ** 20);
  try {
    await nodes.open();
    process.env.RAYLITE_AGENT = nodes.node('here').uds;
    await using _cluster = await init({ address: nodes.head.address, token: TOKEN, logToDriver: false });
    await use(nodes, storage);
  } finally {
    delete process.env.RAYLITE_AGENT;
    await nodes[Symbol.asyncDispose]();
    await rm(storage, { recursive: true, force: true });
  }
}
