// `ActorPool` and `Queue`: calls spread over actors, items passed between processes.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  ActorPool,
  actor,
  type Cluster,
  ConfigError,
  cancel,
  GetTimeoutError,
  get,
  init,
  kill,
  Queue,
  QueueEmptyError,
  QueueFullError,
  TaskError,
  task,
} from '#src/client/index.js';
import { Echo, sumsInto } from './support/call-code.js';

const poolsAndQueues = (local: boolean) => () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await init({ local, numCpus: 2, logToDriver: false });
  });
  after(async () => {
    await cluster.close();
  });
  const echoes = (echo: Awaited<ReturnType<typeof makeEcho>>, ms: number) => echo.after(ms);
  const makeEcho = () => actor(Echo).create();

  test('a pool gives results in order, or as they come', async () => {
    const pool = new ActorPool([await makeEcho(), await makeEcho()]);
    const ordered = [];
    for await (const value of pool.map(echoes, [40, 1, 20, 2])) ordered.push(value);
    assert.deepEqual(ordered, [40, 1, 20, 2]);
    const unordered = [];
    for await (const value of pool.mapUnordered(echoes, [300, 1, 2])) unordered.push(value);
    assert.equal(unordered.at(-1), 300);
    assert.deepEqual(
      [...unordered].sort((a, b) => a - b),
      [1, 2, 300],
    );
    for (let echo = pool.pop(); echo; echo = pool.pop()) await kill(echo);
    assert.equal(pool.hasFree, false);
  });

  test('calls wait for a free actor; results are taken one by one', async () => {
    const echo = await makeEcho();
    const pool = new ActorPool([echo]);
    pool.submit(echoes, 100);
    pool.submit(echoes, 13);
    pool.submit(echoes, 3);
    assert.equal(pool.hasFree, false);
    assert.equal(pool.pop(), null);
    await assert.rejects(pool.getNext({ timeoutMs: 1 }), GetTimeoutError);
    assert.equal(await pool.getNext(), 100);
    await assert.rejects(pool.getNext(), TaskError);
    assert.equal(await pool.getNextUnordered(), 3);
    assert.equal(pool.hasNext, false);
    await assert.rejects(pool.getNext(), ConfigError);
    assert.throws(() => pool.push(echo), ConfigError);
    assert.throws(() => new ActorPool([]), { path: 'actors' });
    await kill(echo);
  });

  test('a queue keeps the order, and says when it is full or empty', async () => {
    const queue = await Queue.create<string>({ sizeMax: 2 });
    await queue.put('a');
    await queue.put('b');
    await assert.rejects(queue.put('c', { timeoutMs: 0 }), QueueFullError);
    await assert.rejects(queue.putBatch(['c', 'd'], { timeoutMs: 5 }), QueueFullError);
    const late = queue.put('c'); // waits for room
    assert.equal(await queue.get(), 'a');
    await late;
    assert.equal(await queue.size(), 2);
    assert.deepEqual(await queue.getBatch(2), ['b', 'c']);
    await assert.rejects(queue.get({ timeoutMs: 0 }), QueueEmptyError);
    await assert.rejects(queue.getBatch(2, { timeoutMs: 5 }), QueueEmptyError);
    await assert.rejects(queue.getBatch(0), { path: 'count' });
    await assert.rejects(Queue.create({ sizeMax: -1 }), { path: 'sizeMax' });
    await queue.shutdown();
  });

  test('other processes use it by its handle; who gave up waiting takes nothing with them', async () => {
    const numbers = await Queue.create<number>();
    const sums = await Queue.create<number>();
    const abandoned = numbers.handle.get(1, null);
    assert.equal(await numbers.size(), 0);
    cancel(abandoned);
    await assert.rejects(get(abandoned));
    const done = task(sumsInto)(numbers.handle, sums.handle, 3);
    await numbers.putBatch([1, 2]);
    await numbers.put(3);
    assert.equal(await sums.get(), 6);
    await done;
    await numbers.shutdown({ graceMs: 1_000 });
    await sums.shutdown();
  });
};

describe('pools and queues', poolsAndQueues(false));
describe('pools and queues, in local mode', poolsAndQueues(true));
