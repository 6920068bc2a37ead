// Objects whose node is lost: results of tasks are made again, also their arguments, for whoever reads them; for the rest
// the error says why not.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  actor,
  type Cluster,
  get,
  init,
  kvGet,
  nodes,
  ObjectReconstructionFailedError,
  type ObjectRef,
  task,
  wait,
} from '#src/client/index.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Maker, nestedLarge, noise, notedNext, notedNoise, sha256Of } from './support/user-code.js';

const MIB = 1024 * 1024;
const BYTES = 4 * MIB;

describe('when a node is lost', () => {
  let cluster: TestNodes;
  let driver: Cluster;
  beforeEach(async () => {
    // The driver's node makes nothing: what is asked to be made goes to one of the other two.
    cluster = new TestNodes({ here: {}, one: { maker: 2 }, two: { maker: 2 } }, 128 * MIB);
    await cluster.open();
    process.env.RAYLITE_AGENT = cluster.node('here').uds;
    driver = await init({ address: cluster.head.address, token: TOKEN, logToDriver: false });
  });
  afterEach(async () => {
    delete process.env.RAYLITE_AGENT;
    await driver[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });
  const onMaker = { resources: { maker: 1 } };
  const runsOf = async (key: string): Promise<string[]> =>
    JSON.parse(Buffer.from((await kvGet(key)) ?? []).toString() || '[]') as string[];
  const lose = async (nodeId: string): Promise<void> => {
    await cluster.killNode(nodeId);
    while ((await nodes()).some((node) => node.nodeId === nodeId && node.isAlive)) await sleep(20);
  };
  const failsWith =
    (reason: ObjectReconstructionFailedError['reason'], message: RegExp) =>
    (error: unknown): boolean => {
      assert.ok(error instanceof ObjectReconstructionFailedError, String(error));
      assert.equal(error.reason, reason);
      assert.match(error.message, message);
      return true;
    };

  test('results of tasks are made again, with the arguments that were let go of', async () => {
    const first = task(notedNoise, onMaker)(BYTES, 3, 'first');
    await wait([first]);
    const second = task(notedNext, onMaker)(first, 'second'); // on the worker that has just become free
    await wait([second]);
    first.release();
    const [where] = await runsOf('second');
    assert.deepEqual(await runsOf('first'), [where]);
    await lose(where!);
    const expected = noise(BYTES, 3).map((byte) => byte + 1);
    assert.ok(Buffer.from(await second).equals(Buffer.from(expected)));
    const runs = await runsOf('second');
    assert.equal(runs.length, 2);
    assert.notEqual(runs[1], where);
    assert.equal((await runsOf('first')).length, 2, 'its argument was made again, once');
  });

  test('another process that reads the result has it made again by its owner', async () => {
    const made = task(notedNoise, onMaker)(BYTES, 5, 'made');
    await wait([made]);
    const [where] = await runsOf('made');
    await lose(where!);
    assert.equal(await task(sha256Of)(made), sha256Of(noise(BYTES, 5)));
    assert.equal((await runsOf('made')).length, 2);
  });

  test('what cannot be made again says why', async () => {
    const spent = task(notedNoise, { ...onMaker, maxRetries: 0 })(BYTES, 5, 'spent');
    await wait([spent]);
    const maker = await actor(Maker, onMaker).create();
    const byActor = maker.make(BYTES) as unknown as ObjectRef<Uint8Array>;
    const holder = await task(nestedLarge, onMaker)(BYTES);
    await wait([spent, byActor], { numReturns: 2 });
    await Promise.all([cluster.node('one').nodeId, cluster.node('two').nodeId].map(lose));
    await assert.rejects(get(spent), failsWith('retries', /none of its 0 retries is left/));
    await assert.rejects(get(byActor), failsWith('actor', /Maker\.make/));
    await assert.rejects(get(holder.ref), { code: 'RAYLITE_OWNER_DIED' });
  });
});
