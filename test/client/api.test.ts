// The public API on an embedded cluster of real processes: what a user of it sees.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import {
  ActorDiedError,
  actor,
  CancelledError,
  type Cluster,
  CodeNotFoundError,
  ConfigError,
  cancel,
  GetTimeoutError,
  get,
  getActor,
  InfeasibleError,
  init,
  kill,
  nodes,
  ObjectLostError,
  put,
  SerializationError,
  TaskError,
  task,
  WorkerCrashedError,
  wait,
} from '#src/client/index.js';
import {
  Counter,
  crash,
  delayed,
  fails,
  levelsBelow,
  Meeting,
  makes,
  nested,
  nestedLarge,
  Patient,
  square,
  sumOf,
  umaskHere,
  unwraps,
} from './support/user-code.js';

describe('an embedded cluster', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await init({ numCpus: 2, objectStoreMemory: 256 * 1024 * 1024, logToDriver: false });
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  test('runs the calls of an actor in the order in which they were made', async () => {
    const counter = await actor(Counter).create(10);
    const refs = Array.from({ length: 1000 }, (_, index) => counter.add(index));
    const values = await get(refs);
    let sum = 10;
    assert.deepEqual(
      values,
      refs.map((_, index) => {
        sum += index;
        return sum;
      }),
    );
    await kill(counter);
  });

  test('takes refs wherever a value is expected, and keeps the order behind one that is not ready', async () => {
    const counter = await actor(Counter).create(0);
    const late = task(delayed)(50, 5);
    const first = counter.add(late);
    const second = counter.add(1);
    assert.deepEqual(await get([first, second]), [5, 6]);
    assert.equal(await task(square)(task(square)(2)), 16);
    await kill(counter);
  });

  test('large values travel through shared memory, as arguments, results and puts', async () => {
    const made = task(makes)(300_000);
    const value = await made;
    assert.equal(value.length, 300_000);
    assert.equal(await task(sumOf)(made), 450_000);
    assert.equal(await task(sumOf)(new Float32Array(100_000).fill(2)), 200_000);
    const source = new Float32Array(50_000).fill(1);
    const ref = put(source);
    source.fill(7);
    assert.equal((await ref)[49_999], 1);
    value[0] = 99; // a private copy: nobody else sees it
    assert.equal(await task(sumOf)(made), 450_000);
  });

  test('a store filled with what nobody uses any more has room again', async () => {
    for (let round = 0; round < 300; round += 1) assert.equal((await task(makes)(300_000))[1], 1.5); // 360 MB in all
  });

  test('refs inside values stay usable after the call that brought them', async () => {
    const inner = put('deep');
    assert.equal(await task(unwraps)({ ref: inner }), 'deep');
    const { ref } = await task(nested)(41);
    assert.equal(await ref, 42);
  });

  test('tasks that wait for tasks of their own let those have their CPUs, however deep', async () => {
    assert.equal(await task(levelsBelow)(6), 6); // on 2 CPUs
  });

  test('so do actors, also while the arguments of their constructor are made', async () => {
    const first = await actor(Patient, { cpus: 1 }).create(task(square)(2));
    const second = await actor(Patient, { cpus: 1 }).create(task(square)(3));
    assert.deepEqual(await get([first.waits(4), second.waits(5)]), [20, 34]);
    await kill(first);
    await kill(second);
  });

  test('an object that a task made outlives the lease of its worker', async () => {
    const small = await task(nested)(41);
    const large = await task(nestedLarge)(300_000);
    for (;;) {
      const [node] = await nodes();
      if (node?.available.CPU === 2) break; // leases were given back
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal(await task(square)(3), 9); // by another worker, while the first ones would end
    assert.equal(await small.ref, 42);
    assert.equal((await large.ref)[299_999], 1.5);
  });

  test('errors keep name, message, fields, cause and both stacks', async () => {
    const error = await task(fails)('no good').then(
      () => assert.fail(),
      (caught: unknown) => caught,
    );
    assert.ok(error instanceof TaskError);
    assert.match(error.stack ?? '', /api\.test/);
    const { cause } = error;
    assert.ok(cause instanceof RangeError);
    assert.equal(cause.message, 'no good');
    assert.equal((cause as RangeError & { extra: number }).extra, 1);
    assert.match(cause.stack ?? '', /user-code/);
    assert.ok((cause.cause as Error).message === 'root');
  });

  test('an actor whose constructor throws is dead, with what it threw', async () => {
    await assert.rejects(actor(Counter).create(-1), (error: unknown) => {
      assert.ok(error instanceof ActorDiedError);
      assert.match(error.message, /must not be negative/);
      return true;
    });
  });

  test('an actor that crashes is dead to its callers; with restarts it comes back', async () => {
    const once = await actor(Counter).create(0);
    await assert.rejects(
      get(once.exit(3)),
      (error: unknown) => error instanceof ActorDiedError && /code 3/.test(error.message),
    );
    await assert.rejects(get(once.add(1)), ActorDiedError);
    const again = await actor(Counter, { maxRestarts: 1, maxTaskRetries: 1 }).create(100);
    const first = await again.pid();
    process.kill(first, 'SIGKILL');
    const second = await again.pid();
    assert.notEqual(second, first);
    assert.equal(await again.add(1), 101);
    await kill(again);
    await assert.rejects(get(again.add(1)), ActorDiedError);
  });

  test('a task whose worker crashes runs again, as often as allowed', async () => {
    await assert.rejects(get(task(crash, { maxRetries: 1 })()), WorkerCrashedError);
    assert.equal(await task(square)(3), 9);
  });

  test('named actors are found by others and refused twice', async () => {
    const counter = await actor(Counter, { name: 'hits' }).create(1);
    const same = await getActor<Counter>('hits');
    assert.equal(await same.add(1), 2);
    await assert.rejects(actor(Counter, { name: 'hits' }).create(1), ConfigError);
    await kill(counter);
    await assert.rejects(getActor('hits'), ConfigError);
  });

  test('wait splits refs as Ray does', async () => {
    const slow = task(delayed)(60_000, 1);
    const refs = [slow, put(1), put(2)];
    assert.deepEqual(await wait(refs), { ready: [refs[1]], rest: [slow, refs[2]] });
    assert.deepEqual(await wait(refs, { numReturns: 2 }), { ready: [refs[1], refs[2]], rest: [slow] });
    assert.deepEqual(await wait([slow], { timeoutMs: 0 }), { ready: [], rest: [slow] });
    assert.deepEqual(await wait([]), { ready: [], rest: [] });
    await assert.rejects(wait([slow], { count: 1 } as never), { path: 'count' });
    assert.throws(() => get(slow, { timeoutMs: 'soon' } as never), { path: 'timeoutMs' });
    await assert.rejects(wait([slow, slow]), ConfigError);
    await assert.rejects(get(slow, { timeoutMs: 10 }), GetTimeoutError);
    await assert.rejects(get(slow, { signal: AbortSignal.abort(new Error('enough')) }), /enough/);
    cancel(slow, { forceAfterMs: 0 }); // it would hold its CPU for a minute
  });

  test('a running call hears that it was cancelled', async () => {
    const meeting = await actor(Meeting, { maxConcurrency: 2 }).create();
    const held = meeting.holds();
    assert.deepEqual(await meeting.aborted(), []); // calls start in order: it holds by now
    cancel(held);
    await assert.rejects(get(held), CancelledError);
    assert.deepEqual(await meeting.aborted(), ['CancelledError']);
    await kill(meeting);
  });

  test('an actor runs as many calls at a time as it allows, and no more', async () => {
    const three = await actor(Meeting, { maxConcurrency: 3 }).create();
    assert.deepEqual(await get(Array.from({ length: 6 }, () => three.meet(3))), Array(6).fill(3));
    await kill(three);
    const one = await actor(Meeting).create();
    assert.deepEqual(await get(Array.from({ length: 3 }, () => one.meet(1))), [1, 1, 1]);
    await kill(one);
  });

  test('a released ref cannot be read', async () => {
    const ref = put(1);
    ref.release();
    await assert.rejects(get(ref), ObjectLostError);
  });

  test('what cannot be done is refused with what to do', async () => {
    class Inner {}
    await assert.rejects(actor(Inner).create(), CodeNotFoundError);
    await assert.rejects(actor(Counter, { cpus: 1000 }).create(0), InfeasibleError);
    await assert.rejects(get(task(square, { gpus: 4 })(1)), InfeasibleError);
    const counter = await actor(Counter).create(0);
    assert.throws(() => counter.add((() => 1) as never), SerializationError);
    assert.throws(() => (counter as unknown as { nope(): void }).nope(), TypeError);
    assert.throws(() => actor(Counter, { cpu: 1 } as never), ConfigError);
    assert.throws(() => actor(Counter, { cpus: '1' } as never), { path: 'cpus' });
    assert.throws(() => actor(Counter, { resources: { disk: Number.NaN } }), { path: 'resources.disk' });
    assert.throws(() => actor(Counter, { resources: { CPU: 1 } }), { path: 'resources.CPU' });
    assert.throws(
      () => task(square, { gpus: 1.5 }),
      /gpus: expected a part of one GPU .* whole number of them, got 1.5/,
    );
    assert.throws(() => actor(square as never), ConfigError);
    assert.throws(() => task(Counter as never), /use actor\(Counter\)/);
    await assert.rejects(init(), ConfigError);
    await kill(counter);
  });

  test('what the head refuses shows the line that asked', async () => {
    const asks = [
      () => getActor('nobody'),
      () => actor(Counter, { cpus: 1000 }).create(0),
      () => actor(Counter).create(-1),
    ];
    for (const ask of asks)
      await assert.rejects(ask, (error: unknown) => /api\.test/.test((error as Error).stack ?? ''));
  });

  test('what workers write has the modes that this user is used to', async () => {
    assert.equal(await task(umaskHere)(), process.umask());
  });

  test('a creator that waits long is told what its actor waits for', async () => {
    const holder = await actor(Counter, { cpus: 2 }).create(0);
    const told = once(process, 'warning');
    const waiting = actor(Counter, { cpus: 1 }).create(1);
    const [warning] = await told;
    assert.equal(warning.code, 'RAYLITE_WAITING');
    assert.match(warning.message, /actor Counter waits for 1 CPU: node \w+ has 0 of 2 CPU free/);
    await kill(holder);
    await kill(await waiting);
  });

  test('says what the cluster has', async () => {
    const [node] = await nodes();
    assert.equal(node?.isAlive, true);
    assert.equal(node?.resources.CPU, 2);
  });
});
