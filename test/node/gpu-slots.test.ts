// Which devices a worker sees.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkerId } from '#src/common/index.js';
import { GpuSlots } from '#src/node/gpu-slots.js';

const worker = (name: string): WorkerId => name as WorkerId;

test('whole GPUs go to one worker, fractions share one, and both come back', () => {
  const slots = new GpuSlots(['0', '1', '2']);
  assert.deepEqual(slots.take(worker('a'), 0.5), ['0']);
  assert.deepEqual(slots.take(worker('b'), 2), ['1', '2']);
  assert.deepEqual(slots.take(worker('c'), 0.5), ['0']);
  assert.equal(slots.take(worker('d'), 0), null);
  slots.giveBack(worker('b'));
  assert.deepEqual(slots.take(worker('e'), 1), ['1']);
});

test('fractions are packed, so that whole devices stay free', () => {
  const slots = new GpuSlots(['0', '1']);
  assert.deepEqual(slots.take(worker('a'), 0.25), ['0']);
  assert.deepEqual(slots.take(worker('b'), 0.5), ['0']);
  assert.deepEqual(slots.take(worker('c'), 0.5), ['1']);
  assert.deepEqual(slots.take(worker('d'), 0.25), ['0']);
  slots.giveBack(worker('c'));
  assert.deepEqual(slots.take(worker('e'), 1), ['1']);
});

test('what no single device has room for goes to those with most room: nobody that was granted a GPU sees none', () => {
  const slots = new GpuSlots(['0', '1']);
  assert.deepEqual(slots.take(worker('a'), 0.6), ['0']);
  assert.deepEqual(slots.take(worker('b'), 0.7), ['1']);
  assert.deepEqual(slots.take(worker('c'), 0.6), ['0']);
  slots.giveBack(worker('b'));
  assert.deepEqual(slots.take(worker('d'), 1), ['1']);
  slots.giveBack(worker('a'));
  slots.giveBack(worker('c'));
  slots.giveBack(worker('d'));
  assert.deepEqual(slots.take(worker('e'), 2), ['0', '1']);
});

test('a faulty GPU goes to nobody, as long as there are others', () => {
  const slots = new GpuSlots(['0', '1', '2']);
  const faulty = new Set(['0']);
  assert.deepEqual(slots.take(worker('a'), 0.5, faulty), ['1']);
  assert.deepEqual(slots.take(worker('b'), 1, faulty), ['2']);
  assert.deepEqual(slots.take(worker('c'), 1, new Set(['0', '1', '2'])), ['0']);
});
