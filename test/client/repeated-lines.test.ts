// Which lines of workers a driver shows, and when.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REPEAT_WINDOW_MS, RepeatedLines, type Shown } from '#src/client/repeated-lines.js';

const from = (pid: number, ...lines: string[]): Shown => ({
  nodeId: 'n',
  pid,
  name: 'Rank',
  host: '',
  isError: false,
  lines,
});
const text = (shown: readonly Shown[]): readonly string[] =>
  shown.flatMap(({ pid, lines }) => lines.map((line) => `${pid}: ${line}`));

test('a line that several workers write is shown once, and counted when the window ends', () => {
  const repeated = new RepeatedLines();
  assert.deepEqual(text(repeated.pass(from(1, 'loaded shard 1 of model'), 0)), ['1: loaded shard 1 of model']);
  for (let pid = 2; pid <= 13; pid += 1)
    assert.deepEqual(text(repeated.pass(from(pid, `loaded shard ${pid} of model`), pid)), []);
  assert.ok(repeated.isHolding);
  assert.deepEqual(text(repeated.due(REPEAT_WINDOW_MS - 1)), []);
  const told = text(repeated.due(REPEAT_WINDOW_MS));
  assert.deepEqual(told, [
    '13: loaded shard 13 of model [repeated 12x across cluster] (RAYLITE_DEDUP_LOGS=0 shows each)',
  ]);
  assert.ok(!repeated.isHolding);
  // The next window counts anew, and explains no more.
  repeated.pass(from(1, 'loaded shard 1 of model', 'loaded shard 2 of model'), REPEAT_WINDOW_MS + 1);
  assert.deepEqual(text(repeated.due(3 * REPEAT_WINDOW_MS)), [
    '1: loaded shard 2 of model [repeated 2x across cluster]',
  ]);
  assert.deepEqual(text(repeated.due(9 * REPEAT_WINDOW_MS)), []);
});

test('what one worker repeats, numbers alone, and the other stream are all shown', () => {
  const repeated = new RepeatedLines();
  assert.equal(text(repeated.pass(from(1, 'step', 'step', '17', ''), 0)).length, 4);
  assert.equal(text(repeated.pass(from(2, '18', ''), 1)).length, 2);
  assert.equal(text(repeated.pass({ ...from(2, 'step'), isError: true }, 2)).length, 1);
});

test('a line held back once is shown as it is; what is held when the driver leaves is shown then', () => {
  const repeated = new RepeatedLines();
  repeated.pass(from(1, 'ready', 'steady'), 0);
  repeated.pass(from(2, 'ready', 'steady'), 1);
  repeated.pass(from(3, 'steady'), 2);
  assert.deepEqual(text(repeated.rest()), [
    '2: ready',
    '3: steady [repeated 2x across cluster] (RAYLITE_DEDUP_LOGS=0 shows each)',
  ]);
  assert.deepEqual(text(repeated.rest()), []);
});
