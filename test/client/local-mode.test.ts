// Local mode: a cluster inside this process that means the same. Pools, queues and most of actors run in their own suites.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  ActorDiedError,
  actor,
  actorIdOf,
  CancelledError,
  type Cluster,
  ConfigError,
  cancel,
  get,
  getActor,
  InfeasibleError,
  init,
  kill,
  nodes,
  put,
  runtimeContext,
  TaskError,
  task,
  wait,
} from '#src/client/index.js';
import { below, changes, count, heard, place, Tally, throws, untilCancelled } from './support/local-code.js';

describe('local mode', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await init({ local: true, numCpus: 2, runtimeEnv: { envVars: { RAYLITE_TEST_LOCAL: 'yes' } } });
  });
  after(async () => {
    await cluster.close();
    assert.throws(() => put(1), ConfigError);
  });

  test('values are copies on every way: what code does to them is not seen elsewhere', async () => {
    const mine = { count: 1, bytes: new Uint8Array(200_000) };
    const kept = put(mine);
    const [first, second] = await get([task(changes)(kept), task(changes)(kept)]);
    mine.count = 9;
    assert.deepEqual([first.count, second.count, (await kept).count], [2, 2, 1]);
    assert.deepEqual([first.bytes[0], mine.bytes[0], (await kept).bytes[0]], [7, 0, 0]);
    assert.notEqual(await kept, await kept);
    assert.throws(() => task(changes)({ count: 1, bytes: (() => 1) as never }), /args\[0\]\.bytes of changes/);
  });

  test('errors have their kind, fields and both stacks', async () => {
    const error = await task(throws)().then(null, (caught: unknown) => caught);
    assert.ok(error instanceof TaskError && error.cause instanceof Error);
    assert.match(error.stack ?? '', /local-mode\.test/);
    assert.match(error.cause.stack ?? '', /throws.*local-code/);
    assert.deepEqual([error.cause.name, (error.cause as { limit?: number }).limit], ['RangeError', 3]);
  });

  test('code knows whose part it runs in; nested tasks need no CPUs of their own', async () => {
    const there = await task(place)();
    assert.deepEqual([there.isDriver, there.hasSignal, runtimeContext().isDriver], [false, true, true]);
    assert.notEqual(there.workerId, runtimeContext().workerId);
    assert.equal(await task(below)(7), 7);
  });

  test('an actor takes calls in their order, has a name, and ends with its hooks', async () => {
    const tally = await actor(Tally, { name: 'tally' }).create();
    assert.deepEqual(await get([1, 2, 3, 4].map((x) => tally.add(x))).then((all) => all.at(-1)), [1, 2, 3, 4]);
    const same = await getActor<Tally>('tally');
    assert.deepEqual(await same.context(), { actorId: actorIdOf(tally), hadSignal: false });
    await assert.rejects(get(tally.leave()), ActorDiedError);
    assert.ok(heard.has(`exit of ${actorIdOf(tally)}`));
    const killed = await actor(Tally).create();
    await kill(killed);
    await assert.rejects(get(killed.context()), ActorDiedError);
  });

  test('calls are cancelled by their signal, generators give items, wait splits', async () => {
    const waiting = task(untilCancelled)();
    const { ready, rest } = await wait([waiting, task(untilCancelled)()], { timeoutMs: 100 });
    assert.deepEqual([ready.length, rest.length], [0, 2]);
    for (const ref of rest) cancel(ref);
    await assert.rejects(get(waiting), CancelledError);
    assert.ok(heard.has('abort'));
    const items = [];
    for await (const ref of task(count)(3)) items.push(await ref);
    assert.deepEqual(items, [0, 1, 2]);
  });

  test('there is one node with what was offered, and its environment; what it lacks is refused', async () => {
    const [node, ...others] = await nodes();
    assert.deepEqual([node?.resources.CPU, others.length], [2, 0]);
    await task(place)();
    assert.equal(process.env.RAYLITE_TEST_LOCAL, 'yes');
    await assert.rejects(get(task(place, { gpus: 8 })()), InfeasibleError);
  });
});

test('local mode refuses what needs another process', async () => {
  await assert.rejects(init({ local: true, address: 'auto' }), { path: 'init.address' });
  await assert.rejects(init({ local: true, objectStoreMemory: 1e8 }), { path: 'init.objectStoreMemory' });
  await assert.rejects(init({ local: true, runtimeEnv: { workingDir: '.' } }), { path: 'runtimeEnv.workingDir' });
});
