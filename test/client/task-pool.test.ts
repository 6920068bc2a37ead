// When workers are asked for, and when not any more.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import type { Invocation } from '#src/client/invocation.js';
import type { Runtime } from '#src/client/runtime.js';
import { TaskPool } from '#src/client/task-pool.js';
import type { wire } from '#src/protocol/index.js';

/** A pool whose head takes notes and grants nothing. */
function poolOf(): { readonly pool: TaskPool; readonly asked: string[]; readonly returned: string[] } {
  const asked: string[] = [];
  const returned: string[] = [];
  const head = {
    ask: ({ requestLease }: wire.ClientToHead.$Properties): Promise<never> => {
      asked.push(requestLease!.leaseId!);
      return new Promise(() => {});
    },
    tell: ({ returnLease }: wire.ClientToHead.$Properties): void => void returned.push(returnLease!.leaseId!),
  };
  const demand = {
    resources: { CPU: 1 },
    labels: {},
    strategy: 'DEFAULT',
    runtimeEnv: {},
    waitsIfInfeasible: false,
    fallbackLabels: [],
    bundle: null,
    locality: null,
  };
  const pool = new TaskPool({ head, jobId: 'job-1', peers: {} } as unknown as Runtime, demand);
  return { pool, asked, returned };
}

const waiting = (): Invocation => ({ shape: { priority: 0 }, keeps: [], fail: () => {} }) as unknown as Invocation;

test('bursts of tasks share one request for a worker; it is taken back when no burst follows', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { pool, asked, returned } = poolOf();
    for (let burst = 0; burst < 5; burst += 1) {
      const task = waiting();
      pool.send(task);
      mock.timers.tick(30);
      pool.cancel(task);
      mock.timers.tick(30);
    }
    assert.equal(asked.length, 1);
    assert.deepEqual(returned, []);
    mock.timers.tick(100);
    mock.timers.tick(100);
    assert.deepEqual(returned, asked);
  } finally {
    mock.timers.reset();
  }
});

test('of many requests those stay that were needed lately', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { pool, asked, returned } = poolOf();
    const tasks = Array.from({ length: 6 }, waiting);
    for (const task of tasks) pool.send(task);
    assert.equal(asked.length, 6);
    for (const task of tasks.slice(2)) pool.cancel(task);
    mock.timers.tick(100);
    mock.timers.tick(100);
    assert.deepEqual(returned, asked.slice(2));
  } finally {
    mock.timers.reset();
  }
});
