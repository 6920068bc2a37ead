// `raylite explain` on a real cluster: what a user who waits is told.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { actor, type Cluster, get, init, put, task } from '#src/client/index.js';
import type { Explanation } from '#src/head/index.js';
import { CLI } from '../support/cli.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Counter, noise, square } from './support/user-code.js';

describe('raylite explain', () => {
  const nodes = new TestNodes({ here: {} }, 64 * 1024 * 1024);
  let cluster: Cluster;
  before(async () => {
    await nodes.open();
    process.env.RAYLITE_AGENT = nodes.node('here').uds;
    cluster = await init({ address: nodes.head.address, token: TOKEN, logToDriver: false });
  });
  after(async () => {
    delete process.env.RAYLITE_AGENT;
    await cluster?.[Symbol.asyncDispose]();
    await nodes[Symbol.asyncDispose]();
  });

  const raylite = async (...args: readonly string[]): Promise<string> => {
    const env = { ...process.env, RAYLITE_ADDRESS: nodes.head.httpUrl, RAYLITE_TOKEN: TOKEN };
    return (await promisify(execFile)(process.execPath, [CLI, 'explain', ...args], { env })).stdout;
  };
  const explained = async (id: string): Promise<Explanation> => JSON.parse(await raylite(id, '--json')) as Explanation;

  test('an actor by its name, and the node it is on', async () => {
    const { nodeId } = nodes.node('here');
    const counter = await actor(Counter, { name: 'hits' }).create(0);
    await counter.add(1);
    const text = await raylite('hits');
    assert.match(
      text,
      /^actor \w+ \(Counter\) is ALIVE\n {2}It is on node \w+ \(.+\), in process \d+\.\n {2}That node was/,
    );
    const { kind, because } = await explained(nodeId);
    assert.equal(kind, 'node');
    assert.match(because.at(-1)!, /1 actors/);
  });

  test('the result of a task that no node can hold now, and a stored object', async () => {
    const result = task(square, { resources: { special: 1 }, infeasible: 'wait' })(3);
    const stored = put(noise(200_000, 1));
    let waits = await explained(result.id);
    // Its request is on the way to the head.
    while (waits.obstacles.length === 0) waits = await explained(result.id);
    assert.deepEqual([waits.kind, waits.state], ['object', 'UNLISTED']);
    assert.match(
      waits.because[1]!,
      /^A worker for tasks of its owner asks for 1 special, 1 CPU, which no node can ever/,
    );
    assert.match(await raylite(result.id), /NODES {2}EACH {14,}WHICH\n1 +has only 0 special +\w+/);
    const { state, because } = await explained(stored.id);
    assert.equal(state, 'STORED');
    assert.match(because[1]!, /^Its bytes are arena on node \w+\.$/);
    assert.equal((await get(stored)).length, 200_000);
  });

  test('what nobody knows', async () => {
    await assert.rejects(raylite('nothing'), /there is no actor, task, placement group, node, job, worker or object/);
  });
});
