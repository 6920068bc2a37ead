// Calls that a node remembers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallLog } from '#src/node/call-log.js';
import { wire } from '#src/protocol/index.js';

const worker = (workerId: string): wire.StartWorker =>
  wire.StartWorker.fromObject({ workerId, jobId: 'j1', leaseId: 'l1' }) as wire.StartWorker;
const names = (log: CallLog) =>
  Object.fromEntries(
    (log.survey().workers ?? []).map(({ workerId, calls }) => [workerId, calls?.map(({ name }) => name)]),
  );

test('the last calls stay, the oldest go, and what is left out is counted', () => {
  const log = new CallLog(3);
  log.note(worker('w1'), 1, { calls: [{ name: 'a' }, { name: 'b' }] });
  log.note(worker('w2'), 2, { calls: [{ name: 'c' }, { name: 'd' }], omittedCount: 5 });
  assert.deepEqual(names(log), { w1: ['b'], w2: ['c', 'd'] });
  assert.equal(log.survey().omittedCount, 6);
});

test('what runs is known until its worker says that it does not, or ends', () => {
  const log = new CallLog();
  log.note(worker('w1'), 1, { running: [{ name: 'long', startMs: 1 }] });
  log.note(worker('w2'), 2, { running: [{ name: 'longer', startMs: 1 }] });
  assert.deepEqual(log.running('w1'), ['long']);
  assert.deepEqual(names(log), { w1: ['long'], w2: ['longer'] });
  log.note(worker('w1'), 1, { calls: [{ name: 'long', startMs: 1, endMs: 2 }] });
  log.ended('w2');
  assert.deepEqual(log.running('w1'), []);
  assert.deepEqual(names(log), { w1: ['long'] });
});
