// Calls as a trace and as counts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { taskRows } from '#src/cli/summary.js';
import { traceOf } from '#src/cli/timeline.js';
import type { CallView } from '#src/head/index.js';

const call = (facts: Partial<CallView>): CallView => ({
  name: 'square',
  kind: 'task',
  state: 'FINISHED',
  nodeId: 'n1',
  hostname: 'here',
  workerId: 'w1',
  pid: 41,
  actorId: null,
  jobId: 'j1',
  startedAtMs: 1000,
  endedAtMs: 1002.5,
  ...facts,
});

test('a trace has a lane for each worker, grouped by node, in microseconds; what runs reaches to now', () => {
  const trace = traceOf(
    [
      call({}),
      call({ startedAtMs: 1003, endedAtMs: 1004 }),
      call({
        name: 'Counter.add',
        kind: 'actor',
        actorId: 'a1',
        workerId: 'w2',
        pid: 42,
        nodeId: 'n2',
        hostname: 'there',
        state: 'RUNNING',
        endedAtMs: null,
      }),
    ],
    1010,
  );
  const lanes = trace.filter(({ ph }) => ph === 'M').map(({ name, pid, tid, args }) => [name, pid, tid, args.name]);
  assert.deepEqual(lanes, [
    ['process_name', 1, 0, 'here n1'],
    ['thread_name', 1, 41, 'tasks pid 41'],
    ['process_name', 2, 0, 'there n2'],
    ['thread_name', 2, 42, 'Counter pid 42'],
  ]);
  const spans = trace
    .filter(({ ph }) => ph === 'X')
    .map(({ name, cat, pid, tid, ts, dur }) => [name, cat, pid, tid, ts, dur]);
  assert.deepEqual(spans, [
    ['square', 'task', 1, 41, 1_000_000, 2500],
    ['square', 'task', 1, 41, 1_003_000, 1000],
    ['Counter.add', 'actor', 2, 42, 1_000_000, 10_000],
  ]);
});

test('a summary of tasks counts by name and state, the most frequent first', () => {
  const tasks = [
    call({ name: 'once', state: 'FAILED' }),
    call({}),
    call({ endedAtMs: 1007.5 }),
    call({ state: 'RUNNING', endedAtMs: null }),
  ];
  assert.deepEqual(taskRows(tasks), [
    { task: 'square', running: 1, finished: 2, failed: 0, meanMs: 5, longestMs: 7.5 },
    { task: 'once', running: 0, finished: 0, failed: 1, meanMs: 2.5, longestMs: 2.5 },
  ]);
});
