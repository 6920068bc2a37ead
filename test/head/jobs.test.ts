// Jobs: from their start to their end, and what ends with them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JobId } from '#src/common/index.js';
import { scenario } from './scenario.js';

test('a job runs to its end and takes its actors with it', () => {
  const cluster = scenario();
  cluster.node('a');
  assert.deepEqual(cluster.job('job-7'), [
    'save job job-7',
    'done',
    'save job job-7',
    'start job-7 on a',
    'job-7 is RUNNING',
  ]);
  cluster.actor('hits', { job: 'job-7', needs: {} });
  assert.deepEqual(
    cluster.send({ kind: 'jobExited', jobId: 'job-7' as JobId, exitCode: 3, signal: '', failure: null }),
    [
      'save job job-7',
      'job-7 is FAILED: the entrypoint exited with code 3',
      'save actor hits',
      'stop w1 on a by force',
      'hits is dead: its job job-7 ended',
    ],
  );
});

test('a stopped job is STOPPED whatever its exit code, a waiting one at once', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  const stop = (id: string) => cluster.send({ kind: 'stopJob', jobId: id as JobId, request: 5 });
  cluster.job('job-1', { CPU: 1 });
  cluster.job('job-2', { CPU: 1 });
  assert.deepEqual(stop('job-2'), ['save job job-2', 'job-2 is STOPPED: stopped before it started', 'done']);
  assert.deepEqual(stop('job-1'), ['save job job-1', 'stop job-1 on a', 'done']);
  assert.deepEqual(
    cluster.send({ kind: 'jobExited', jobId: 'job-1' as JobId, exitCode: 143, signal: 'SIGTERM', failure: null }),
    ['save job job-1', 'job-1 is STOPPED: stopped by request'],
  );
});
