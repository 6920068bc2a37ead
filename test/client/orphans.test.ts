// Nothing outlives who started it: what a worker left goes with the worker, workers and all that a node made with its agent.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { actor, init, kill, put } from '#src/client/index.js';
import { findCgroups } from '#src/node/worker-cgroups.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Parent } from './support/orphan-code.js';

const cgroups = findCgroups();
const isThere = (pid: number): boolean => existsSync(`/proc/${pid}`);
/** Else: the file's time limit. */
async function gone(is: () => boolean): Promise<void> {
  while (is()) await sleep(20);
}
/** What agents with this pid have outside of their folders. */
const belongings = (pid: number): readonly string[] => {
  const folders = cgroups.version === null ? [] : cgroups.folders;
  return ['/dev/shm', ...folders].flatMap((folder) =>
    readdirSync(folder).filter((name) => name.startsWith('raylite-') && name.includes(`-${pid}-`)),
  );
};

test('what a worker started goes with it, and a killed agent takes all of its node along', async () => {
  await using nodes = new TestNodes({ here: {}, there: {} }, 128 * 1024 * 1024);
  await nodes.open();
  process.env.RAYLITE_AGENT = nodes.node('here').uds;
  try {
    const cluster = await init({ address: nodes.head.address, token: TOKEN, logToDriver: false });
    const { nodeId, pid: agentPid } = nodes.node('there');
    const there = { cpus: 0, schedulingStrategy: `node:${nodeId}` } as const;
    const [first, second] = [await actor(Parent, there).create(), await actor(Parent, there).create()];
    const large = put(Buffer.alloc(1024 * 1024));
    const pids = { first: await first.pid(), second: await second.pid() };
    const escapees = { first: await first.escapee(), second: await second.escapee() };
    assert.ok(belongings(agentPid).length > 0);

    await kill(first);
    await gone(() => isThere(pids.first));
    if (cgroups.version !== null) await gone(() => isThere(escapees.first));
    else process.kill(escapees.first);
    assert.ok(isThere(pids.second) && isThere(escapees.second), 'others live on');

    await nodes.killNode(nodeId);
    await gone(() => isThere(pids.second));
    if (cgroups.version !== null) await gone(() => isThere(escapees.second));
    else process.kill(escapees.second);
    await gone(() => belongings(agentPid).length > 0);
    large.release();
    await cluster.close();
  } finally {
    delete process.env.RAYLITE_AGENT;
  }
});
