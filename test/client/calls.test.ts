// Tasks beyond the plain call: several tries, priorities, cancellation of what a call made, and by force.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  actor,
  CancelledError,
  type Cluster,
  cancel,
  get,
  init,
  kill,
  type RetryOn,
  TaskError,
  task,
} from '#src/client/index.js';
import {
  Asker,
  Busy,
  busyFor,
  holdsUntil,
  isBusy,
  noted,
  notes,
  order,
  pidHere,
  Station,
  spins,
  waits,
  waitsAbove,
} from './support/call-code.js';

describe('calls', () => {
  let cluster: Cluster;
  const folder = mkdtempSync(join(tmpdir(), 'raylite-calls-'));
  let files = 0;
  const file = (): string => join(folder, `notes-${files++}`);
  before(async () => {
    cluster = await init({ numCpus: 1, logToDriver: false });
  });
  after(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true });
  });

  test('what user code throws is tried again if it is of a named kind, and else not', async () => {
    const rules: RetryOn[] = [true, [Busy], [isBusy], [RangeError, Error]];
    for (const retryOn of rules) assert.equal(await task(busyFor, { retryOn })(file(), 2), 3);
    for (const retryOn of [undefined, [RangeError]] as (RetryOn | undefined)[]) {
      const path = file();
      await assert.rejects(get(task(busyFor, retryOn && { retryOn })(path, 2)), TaskError);
      assert.equal(notes(path).length, 1);
    }
    const path = file();
    await assert.rejects(get(task(busyFor, { retryOn: true, maxRetries: 1 })(path, 9)), TaskError);
    assert.equal(notes(path).length, 2);
  });

  test('so are methods, as often as maxTaskRetries allows', async () => {
    const path = file();
    const station = await actor(Station, {
      maxTaskRetries: 1,
      methods: { busy: { maxTaskRetries: 5, retryOn: [isBusy] } },
    }).create(path);
    assert.equal(await station.busy(3), 4);
    await assert.rejects(get(station.busy.options({ maxTaskRetries: 0 })(9)), TaskError);
    await kill(station);
  });

  test('tasks of a higher priority run first, equal ones in their order', async () => {
    const path = file();
    const gate = file();
    const first = task(holdsUntil)(gate);
    const low = ['a', 'b', 'c'].map((name) => task(order)(path, name));
    const high = ['d', 'e'].map((name) => task(order, { priority: 2 })(path, name));
    const middle = task(order, { priority: 1 })(path, 'f');
    writeFileSync(gate, '');
    await get([first, ...low, ...high, middle]);
    assert.deepEqual(notes(path), ['d', 'e', 'f', 'a', 'b', 'c']);
  });

  test('the calls that a cancelled call made are cancelled with it, unless asked not to', async () => {
    const path = file();
    const both = task(waitsAbove)(path);
    await noted(path, 2);
    cancel(both);
    await assert.rejects(get(both), CancelledError);
    const seen = await noted(path, 4);
    assert.deepEqual([...seen].sort(), ['child began', 'child was cancelled', 'parent began', 'parent was cancelled']);
    const other = file();
    const alone = task(waitsAbove)(other);
    await noted(other, 2);
    cancel(alone, { recursive: false });
    assert.ok(!(await noted(other, 3)).includes('child was cancelled'));
    cancel(alone);
    await assert.rejects(get(alone), CancelledError);
  });

  test('a task that heeds no signal is ended with its process; others are not', async () => {
    const path = file();
    const spinning = task(spins)(path);
    await noted(path, 1);
    const behind = task(waits)(file(), 'behind');
    cancel(spinning, { forceAfterMs: 10 });
    await assert.rejects(get(spinning), CancelledError);
    cancel(behind);
    await assert.rejects(get(behind), CancelledError);
    const station = await actor(Station).create();
    const held = station.waits();
    assert.throws(() => cancel(held, { forceAfterMs: 1 }), { path: 'forceAfterMs' });
    await kill(station);
    await assert.rejects(get(held));
  });

  test('a worker that one process does not use goes on to another that waits, without a new process', async () => {
    const asker = await actor(Asker, { cpus: 0 }).create();
    const pid = await task(pidHere)();
    assert.equal(await asker.pidOfTask(), pid);
    assert.equal(await task(pidHere)(), pid);
  });

  test('options that make no sense are named', () => {
    assert.throws(() => task(busyFor, { retryOn: 'all' } as never), { path: 'retryOn' });
    assert.throws(() => task(busyFor, { priority: 1.5 }), { path: 'priority' });
    assert.throws(() => task(busyFor, { numReturns: -1 }), { path: 'numReturns' });
    assert.throws(() => task(busyFor, { infeasible: 'perhaps' } as never), { path: 'infeasible' });
  });
});
