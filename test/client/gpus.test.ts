// GPUs of a cluster, as their driver's stand-in tells of them: which workers get, and what the head shows.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { init, task } from '#src/client/index.js';
import { StubGpus } from '../support/stub-gpus.js';
import { visibleGpus } from './support/env-code.js';
import { TestNodes, TOKEN } from './support/nodes.js';

const GIB = 2 ** 30;

test('a GPU that breaks gets no more workers, one whose memory is held is waited for, and the metrics tell', async () => {
  using gpus = new StubGpus([{ uuid: 'GPU-a', busyPercent: 30 }, { uuid: 'GPU-b' }]);
  Object.assign(process.env, gpus.env); // what is started from here has it too
  await using nodes = new TestNodes({ here: { GPU: 2 } }, 64 * 2 ** 20);
  await nodes.open();
  process.env.RAYLITE_AGENT = nodes.node('here').uds;
  await using _ = await init({ address: nodes.head.address, token: TOKEN, logToDriver: false });
  delete process.env.RAYLITE_AGENT;
  assert.equal(await task(visibleGpus, { gpus: 1 })(), '0');

  const broken = { uuid: 'GPU-a', busyPercent: 30, xid: 79 };
  gpus.set([broken, { uuid: 'GPU-b', usedBytes: 3 * GIB }]);
  const metrics = async (): Promise<string> => {
    const reply = await fetch(`${nodes.head.httpUrl}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } });
    return reply.text();
  };
  let text = await metrics();
  for (; !/raylite_gpu_faulty\{[^}]*gpu="0"[^}]*\} 1/.test(text); text = await metrics()) await sleep(100);
  assert.match(text, /raylite_gpu_memory_used_bytes\{[^}]*gpu="1",name="Stub"\} 3221225472/);
  assert.match(text, /raylite_gpu_memory_total_bytes\{[^}]*gpu="1"[^}]*\} 85899345920/);
  assert.match(text, /raylite_gpu_busy_percent\{[^}]*gpu="0"[^}]*\} 30/);
  assert.doesNotMatch(text, /raylite_gpu_busy_percent\{[^}]*gpu="1"/);

  const envVars = { ANOTHER: 'worker' };
  let isDone = false;
  const second = task(visibleGpus, { gpus: 1, runtimeEnv: { envVars } })().then((seen) => {
    isDone = true;
    return seen;
  });
  assert.equal(await task(visibleGpus)(), undefined);
  assert.equal(isDone, false);
  gpus.set([broken, { uuid: 'GPU-b' }]);
  assert.equal(await second, '1');
});
