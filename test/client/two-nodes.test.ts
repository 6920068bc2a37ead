// Two nodes of one cluster on one machine, bound to the loopback address: between them everything goes as between
// machines, calls by gRPC and large objects by TCP.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  actor,
  type Cluster,
  ConfigError,
  get,
  getActor,
  init,
  kill,
  kvGet,
  kvPut,
  nodes,
  put,
  task,
  wait,
} from '#src/client/index.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Counter, joins, Meeting, nestedLarge, nodeOf, noise, sha256Of, square } from './support/user-code.js';

const LARGE_BYTES = 64 * 1024 * 1024;
const STORE_BYTES = 384 * 1024 * 1024;

describe('two nodes', () => {
  const two = new TestNodes({ here: {}, there: {} }, STORE_BYTES);
  let cluster: Cluster;
  before(async () => {
    await two.open();
    process.env.RAYLITE_AGENT = two.node('here').uds;
    cluster = await init({ address: two.head.address, token: TOKEN, logToDriver: false });
    assert.equal(cluster.nodeId, two.node('here').nodeId);
  });
  after(async () => {
    delete process.env.RAYLITE_AGENT;
    await cluster?.[Symbol.asyncDispose]();
    await two[Symbol.asyncDispose]();
  });
  const onTheOther = () => ({ schedulingStrategy: `node:${two.node('there').nodeId}` }) as const;

  test('what a driver left on another node goes when it is killed', async () => {
    assert.equal(await two.storeUse(two.node('there').nodeId), 0);
    const script = fileURLToPath(new URL('./support/remote-driver.js', import.meta.url));
    const child = fork(script, [two.head.address, two.node('there').nodeId], {
      env: { ...process.env, RAYLITE_TOKEN: TOKEN, RAYLITE_AGENT: two.node('here').uds },
    });
    const ended = once(child, 'exit');
    const [said] = await Promise.race([once(child, 'message'), ended]);
    assert.equal(said, 'made');
    while ((await two.storeUse(two.node('there').nodeId)) === 0) await sleep(50);
    child.kill('SIGKILL');
    await ended;
    while ((await two.storeUse(two.node('there').nodeId)) > 0) await sleep(50);
  });

  test('calls between nodes keep their order, and errors of either side', async () => {
    const counter = await actor(Counter, onTheOther()).create(0);
    const refs = Array.from({ length: 1000 }, () => counter.add(1));
    assert.deepEqual(
      await get(refs),
      refs.map((_, index) => index + 1),
    );
    await kill(counter);
    await assert.rejects(get(counter.add(1)), /kill/);
  });

  test('64 MiB arrive byte for byte: results, arguments, and what another process put', async () => {
    const expected = noise(LARGE_BYTES, 7);
    const made = task(noise, onTheOther())(LARGE_BYTES, 7);
    assert.ok(Buffer.from(await made).equals(Buffer.from(expected)), 'a result');
    const hash = createHash('sha256').update(expected).digest('hex');
    assert.equal(await task(sha256Of, onTheOther())(put(expected)), hash, 'an argument');
    const { ref } = await task(nestedLarge, onTheOther())(LARGE_BYTES / 4);
    const value = await ref;
    assert.equal(value.length, LARGE_BYTES / 4);
    assert.ok(value.every((number) => number === 1.5));
  });

  test('while the head is gone calls go on, and what is asked of it is answered by the next one', async () => {
    const counter = await actor(Counter, { ...onTheOther(), name: 'survivor' }).create(1);
    await kvPut('before', Buffer.from('kept'));
    await two.killHead();
    assert.equal(await counter.add(1), 2);
    const asked = [kvPut('during', Buffer.from('asked')), task(square)(5), getActor<Counter>('survivor')] as const;
    await two.startHead();
    const [, squared, same] = await Promise.all(asked);
    assert.equal(squared, 25);
    assert.equal(await same.add(1), 3);
    for (const [key, value] of [
      ['before', 'kept'],
      ['during', 'asked'],
    ] as const)
      assert.equal(Buffer.from((await kvGet(key)) ?? []).toString(), value);
    await kill(counter);
    await assert.rejects(getActor('survivor'), ConfigError);
  });

  test('tasks that wait lend their CPUs to others also when the head was started again', async () => {
    const meeting = await actor(Meeting, { maxConcurrency: 6 }).create();
    const waiting = Array.from({ length: 4 }, () => task(joins)(meeting, 5)); // on all 4 CPUs
    while ((await meeting.present()) < 4) await sleep(20);
    const freeCpus = async (): Promise<number> =>
      (await nodes()).reduce((sum, { available }) => sum + (available.CPU ?? 0), 0);
    while ((await freeCpus()) < 4) await sleep(20);
    await two.killHead();
    await two.startHead();
    assert.equal(await task(square, { cpus: 2 })(6), 36);
    assert.equal(await meeting.meet(5), 5);
    assert.deepEqual(await get(waiting), [5, 5, 5, 5]);
    await kill(meeting);
  });

  test('a task runs where most bytes of its arguments are, or where it prefers to', async () => {
    const there = two.node('there').nodeId;
    const large = task(noise, onTheOther())(LARGE_BYTES, 1);
    const small = put(noise(1024 * 1024, 2));
    await wait([large]);
    assert.equal(await task(nodeOf, { cpus: 0.5 })(small), two.node('here').nodeId);
    assert.equal(await task(nodeOf, { cpus: 0.5 })(small, large), there);
    const elsewhere = task(nodeOf, { cpus: 0.25, schedulingStrategy: `prefer:${there}` });
    assert.equal(await elsewhere(), there);
    const labels = { 'raylite.io/node-id': 'nowhere' };
    const fallbackLabels = [{ 'raylite.io/node-id': `in(nowhere,${there})` }];
    assert.equal(await task(nodeOf, { labels, fallbackLabels })(), there);
    assert.throws(() => task(nodeOf, { fallbackLabels }), /labels: expected labels, got nothing/);
    await assert.rejects(get(task(nodeOf, { labels: { zone: 'in(a' } })()), /labels.zone: expected v, !v, in\(a,b\)/);
  });
});
