// What a job writes while the connection of its node to the head breaks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runWithFaults } from './support/run-with-faults.js';

/** A job that writes 600 lines in 30 bursts. */
const JOB = `
  const { readdirSync, readFileSync } = await import('node:fs');
  const files = readdirSync(process.env.RAYLITE_TMPDIR, { recursive: true });
  const token = readFileSync(process.env.RAYLITE_TMPDIR + '/' + files.find((name) => name.endsWith('/token')), 'utf8');
  const headers = { authorization: 'Bearer ' + token, 'content-type': 'application/json' };
  const ask = (path, more = {}) => fetch(cluster.httpUrl + '/api/jobs/' + path, { headers, ...more });
  const bursts = 'i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; if [ $((i % 20)) = 0 ]; then sleep 0.1; fi; done';
  const body = JSON.stringify({ entrypoint: bursts, submission_id: 'writes' });
  await ask('', { method: 'POST', body });
  for (;;) {
    const { status } = await (await ask('writes')).json();
    if (status !== 'PENDING' && status !== 'RUNNING') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(JSON.stringify((await (await ask('writes/logs')).json()).logs));`;

for (const [name, faults] of Object.entries({
  'cut before a piece': 'NodeToHead.jobOutput=3:1:0',
  'cut behind a piece': 'NodeToHead.jobOutput=3:0:1',
  doubled: 'NodeToHead.jobOutput=9:0:0:1',
}))
  test(`output of a job whose stream is ${name}: no byte is lost or doubled`, { timeout: 120_000 }, async (t) => {
    const { told } = await runWithFaults(t, faults, JOB);
    assert.equal(told, Array.from({ length: 600 }, (_, index) => `line ${index + 1}\n`).join(''));
  });
