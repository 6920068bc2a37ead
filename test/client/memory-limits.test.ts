// Memory that runs short: the watch of a node, fed with a meminfo of our own, and limits that workers asked for.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ActorDiedError, actor, type Cluster, get, init, OutOfMemoryError, task } from '#src/client/index.js';
import { findCgroups } from '#src/node/worker-cgroups.js';
import { eat, hold, holdThrice, Precious } from './support/memory-code.js';

const MIB = 1024 * 1024;

describe('a node that is short of memory', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-memory-'));
  const meminfo = join(folder, 'meminfo');
  /** Of 20 GB; replaced as a whole. */
  const available = (percent: number): void =>
    writeFileSync(meminfo, `MemTotal:       20000000 kB\nMemFree: 1 kB\nMemAvailable:   ${percent * 200000} kB\n`);
  let cluster: Cluster;
  before(async () => {
    available(50);
    process.env.RAYLITE_MEMINFO = meminfo;
    cluster = await init({ numCpus: 4, objectStoreMemory: 64 * MIB, logToDriver: false });
  });
  after(async () => {
    await cluster?.close();
    delete process.env.RAYLITE_MEMINFO;
    rmSync(folder, { recursive: true });
  });

  test('ends a task without retries with an error that says why, and what may not run again only if nothing else is left', async () => {
    const running = join(folder, 'running');
    const begun = new Promise<void>((resolve) => {
      const watcher = watch(folder, (_, name) => {
        if (name !== 'running') return;
        watcher.close();
        resolve();
      });
    });
    const ref = task(hold, { maxRetries: 0 })(running);
    await begun;
    available(1);
    const error = await get(ref).then(
      () => assert.fail('it ended by itself'),
      (thrown: unknown) => thrown,
    );
    available(50);
    assert.ok(error instanceof OutOfMemoryError, String(error));
    assert.equal(error.endedBy, 'watch');
    assert.match(error.message, /\(18\.\d+ GiB of 19\.\d+ GiB\).*was ended, since more than 95 % is in use/);
    assert.equal(
      error.workers.some(({ workerId }) => workerId === error.workerId),
      true,
    );
  });

  test('ends a task three times that has one retry: it runs again each time, and its retry is left', async () => {
    process.env.RAYLITE_TASK_OOM_RETRY_DELAY_BASE_MS = '1';
    const runs = new Set<string>();
    const watcher = watch(folder, (_, name) => {
      if (!name?.startsWith('run-') || runs.has(name)) return;
      runs.add(name);
      available(1);
    });
    try {
      const again = task(holdThrice, { maxRetries: 1 })(folder);
      assert.equal(await get(again), 4);
      assert.equal(runs.size, 3);
    } finally {
      watcher.close();
      available(50);
      delete process.env.RAYLITE_TASK_OOM_RETRY_DELAY_BASE_MS;
    }
  });

  test('restarts an actor that may, and says why one died that may not', async () => {
    const precious = await actor(Precious, { cpus: 0 }).create();
    assert.equal(await precious.alive(), 'alive');
    available(1);
    const died = await (async () => {
      for (;;) {
        try {
          await precious.alive();
        } catch (error) {
          if (error instanceof ActorDiedError) return error;
        }
      }
    })();
    available(50);
    assert.ok(died.cause instanceof OutOfMemoryError, String(died.cause));
    assert.match(died.message, /memory is short on node/);
  });
});

const cgroups = findCgroups();
describe('a worker that asked for so much memory', { skip: cgroups.version === null && cgroups.detail }, () => {
  test('is ended when it takes more, with an error that names the limit, and others live', async () => {
    await using _cluster = await init({ numCpus: 2, objectStoreMemory: 64 * MIB, logToDriver: false });
    await assert.rejects(get(task(eat, { memory: 256 * MIB, maxRetries: 0 })(2048 * MIB)), (error: unknown) => {
      assert.ok(error instanceof OutOfMemoryError, String(error));
      assert.equal(error.endedBy, 'limit');
      assert.match(error.message, /\(256 MiB of 256 MiB\).*it reached the limit that it asked for as "memory"/);
      return true;
    });
    assert.equal(await get(task(eat, { memory: 512 * MIB })(128 * MIB)), 8);
  });
});
