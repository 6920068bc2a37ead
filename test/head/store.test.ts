// What was acknowledged is found again by the next head, or the next head refuses to start.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HeadStateError } from '#src/common/index.js';
import { LevelStore } from '#src/head/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { headIn, joinDriver, joinNode, TOKEN } from './head-process.js';

const isDamaged = (error: HeadStateError): boolean => {
  assert.equal(error.code, 'RAYLITE_HEAD_STATE');
  assert.match(error.message, /the saved state of the cluster is damaged|another head/);
  return true;
};

/** A store with some records, closed again; returns the file that holds them. */
async function filled(dir: string): Promise<string> {
  {
    await using store = await LevelStore.open(dir);
    for (let index = 0; index < 20; index += 1) {
      await store.write([{ table: 'kv', id: `key-${index}`, value: Buffer.alloc(200, index) }], true);
    }
  }
  const log = readdirSync(join(dir, 'db')).find((name) => name.endsWith('.log'))!;
  return join(dir, 'db', log);
}

test('a store gives back what it was given', async () => {
  using dir = temporaryFolder();
  await filled(dir.path);
  await using store = await LevelStore.open(dir.path);
  const entries = await store.load();
  assert.equal(entries.filter((entry) => entry.table === 'kv').length, 20);
});

test('a second head on the same state is refused, and the first goes on', async () => {
  using dir = temporaryFolder();
  await using store = await LevelStore.open(dir.path);
  await assert.rejects(LevelStore.open(dir.path), /another head has this state open/);
  await store.write([{ table: 'kv', id: 'a', value: 1 }], true);
});

test('a state whose last writes were cut off is refused', async () => {
  using dir = temporaryFolder();
  const log = await filled(dir.path);
  truncateSync(log, statSync(log).size - 100);
  await assert.rejects(LevelStore.open(dir.path), isDamaged);
});

test('a state whose database is gone is refused', async () => {
  using dir = temporaryFolder();
  await filled(dir.path);
  rmSync(join(dir.path, 'db'), { recursive: true });
  await assert.rejects(LevelStore.open(dir.path), isDamaged);
});

test('a flipped bit anywhere in the log is found', async () => {
  using dir = temporaryFolder();
  const log = await filled(dir.path);
  const good = readFileSync(log);
  for (let at = 3; at < good.length; at += Math.floor(good.length / 9)) {
    const bad = Buffer.from(good);
    bad[at] = bad[at]! ^ 0x10;
    using copy = temporaryFolder();
    spawnSync('cp', ['-r', `${dir.path}/.`, copy.path]);
    writeFileSync(join(copy.path, 'db', log.slice(log.lastIndexOf('/') + 1)), bad);
    const open = async (): Promise<void> => {
      await using store = await LevelStore.open(copy.path);
      await store.load();
    };
    await assert.rejects(open(), isDamaged, `byte ${at} of ${good.length}`);
  }
});

test('a new head takes up jobs, actors and keys, and adopts a node that comes back', async () => {
  using dir = temporaryFolder();
  const stateDir = join(dir.path, 'state');
  const address = { workerId: 'w', nodeId: 'node-a', uds: '/run/w', tcp: '' };
  let workerId = '';
  let clusterId = '';
  {
    await using head = await headIn(dir.path, { stateDir });
    clusterId = head.cluster.id;
    using node = await joinNode(head);
    using driver = await joinDriver(head);
    driver.send({ requestId: 2, createActor: { actorId: 'a1', className: 'Hits', name: 'hits', isDetached: true } });
    workerId = (await node.next()).startWorker!.workerId!;
    node.send({ workerStarted: { workerId, address, pid: 7 } });
    await driver.next();
    assert.equal((await driver.next()).actor?.state, 'ALIVE');
    driver.send({ requestId: 3, kvPut: { key: 'k', value: Buffer.from('v'), overwrite: true } });
    assert.ok((await driver.next()).done);
    const submitted = await fetch(`${head.httpUrl}/api/jobs/`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ entrypoint: 'node main.js', submission_id: 'tune' }),
    });
    assert.equal(submitted.status, 200);
    await node.next();
  }
  await using head = await headIn(dir.path, { stateDir });
  assert.equal(head.cluster.id, clusterId);
  using node = await joinNode(head, {
    workers: [{ address: { ...address, workerId }, actorId: 'a1', pid: 7, incarnation: 1 }],
    runningJobs: ['tune'],
  });
  using driver = await joinDriver(head, { workerId: 'driver-2' });
  driver.send({ requestId: 2, getActor: { name: 'hits' } });
  const { actor } = await driver.next();
  assert.deepEqual([actor?.state, actor?.address?.uds, actor?.incarnation], ['ALIVE', '/run/w', 1]);
  driver.send({ requestId: 3, kvGet: { key: 'k' } });
  assert.equal(Buffer.from((await driver.next()).kvValue!.value!).toString(), 'v');
  const headers = { authorization: `Bearer ${TOKEN}` };
  const job = (await (await fetch(`${head.httpUrl}/api/jobs/tune`, { headers })).json()) as { status: string };
  assert.equal(job.status, 'RUNNING');
  node.send({ jobExited: { jobId: 'tune', exitCode: 0 } });
});
