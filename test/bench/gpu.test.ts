// The suite `gpu` where there is no GPU to measure.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

test('npm run bench -- gpu says what is missing, and measures nothing', () => {
  const env = { ...process.env, RAYLITE_CUDA_LIBRARY: '/nowhere/libraylite_cuda.so' };
  const { status, stdout, stderr } = spawnSync(process.execPath, ['build/tests/bench/run.js', 'gpu'], {
    env,
    encoding: 'utf8',
  });
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /the suite "gpu" measures a GPU: this build has no CUDA half: "npm run build:cuda" makes it/);
});
