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
import {
  Maker,
  nestedLarge,
  noise,
  notedFewer,
  notedItems,
  notedNext,
  notedNoise,
  notedPair,
  sha256Of,
} from './support/user-code.js';

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

  test('several results of a call are made again by one run', async () => {
    const [one, small, two] = task(notedPair, { ...onMaker, numReturns: 3 })(BYTES, 'pair');
    await wait([one, small, two], { numReturns: 3 });
    const [where] = await runsOf('pair');
    await lose(where!);
    const [first, word, second] = await get([one, small, two]);
    assert.deepEqual(
      [sha256Of(first), word, sha256Of(second)],
      [sha256Of(noise(BYTES, 1)), 'small', sha256Of(noise(BYTES, 2))],
    );
    assert.equal((await runsOf('pair')).length, 2);
  });

  test('items of a generator are made again, no further than the last that somebody holds', async () => {
    const items = [];
    for await (const item of task(notedItems, onMaker)(BYTES, 6, 'items')) items.push(item);
    const [where] = await runsOf('items');
    const next = task(notedNext, onMaker)(items[1]!, 'next'); // where its argument is
    await wait([next]);
    assert.deepEqual(await runsOf('next'), [where]);
    for (const item of [1, 3, 4, 5]) items[item]!.release();
    await lose(where!);
    const expected = [1, 3].map((seed) => sha256Of(noise(BYTES, seed)));
    assert.deepEqual([sha256Of(await items[0]!), await task(sha256Of)(items[2]!)], expected);
    assert.equal((await runsOf('items')).length, 2, 'one run brought both');
    assert.equal(Buffer.from((await kvGet('items-made')) ?? []).toString(), '3');
    // Its argument is an item that was let go of.
    assert.equal(sha256Of(await next), sha256Of(noise(BYTES, 2).map((byte) => byte + 1)));
  });

  test('items that came before their generator lost its worker are made again beside it', async () => {
    const items = task(notedItems, { ...onMaker, generatorBackpressure: 2 })(BYTES, 4, 'items');
    const came = [await items.next(), await items.next()].map(({ value }) => value!);
    const [where] = await runsOf('items');
    await lose(where!);
    for await (const item of items) came.push(item);
    const sums = (await get(came)).map(sha256Of);
    assert.deepEqual(
      sums,
      [1, 2, 3, 4].map((seed) => sha256Of(noise(BYTES, seed))),
    );
    assert.equal((await runsOf('items')).length, 3, 'it went on elsewhere, and ran once more for what was lost');
  });

  test('what cannot be made again says why', async () => {
    const [oneId, twoId] = [cluster.node('one').nodeId, cluster.node('two').nodeId];
    const spent = task(notedNoise, { ...onMaker, maxRetries: 0 })(BYTES, 5, 'spent');
    await wait([spent]);
    const maker = await actor(Maker, onMaker).create();
    const byActor = maker.make(BYTES) as unknown as ObjectRef<Uint8Array>;
    const holder = await task(nestedLarge, onMaker)(BYTES);
    const fewer = [];
    for await (const item of task(notedFewer, onMaker)(BYTES, 2, 'fewer')) fewer.push(item);
    await wait([spent, byActor], { numReturns: 2 });
    const [fewerAt] = await runsOf('fewer');
    await lose(fewerAt!);
    assert.equal(sha256Of(await fewer[0]!), sha256Of(noise(BYTES, 1)));
    await assert.rejects(get(fewer[1]!), failsWith('replay', /notedFewer gave fewer items/));
    await Promise.all([oneId, twoId].filter((id) => id !== fewerAt).map(lose));
    await assert.rejects(get(spent), failsWith('retries', /none of its 0 retries is left/));
    await assert.rejects(get(byActor), failsWith('actor', /Maker\.make/));
    await assert.rejects(get(holder.ref), { code: 'RAYLITE_OWNER_DIED' });
  });
});
