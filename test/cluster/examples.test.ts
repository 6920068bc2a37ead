// The examples run and print what they promise.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { EMULATED } from '../support/devices.js';

const run = promisify(execFile);

test('the counter counts and squares', async () => {
  const { stdout } = await run(process.execPath, [resolve('build/tests/examples/counter/main.js')]);
  assert.match(stdout, /^count 2$/m);
  assert.match(stdout, /^squares \[ 9, 4 \]$/m);
});

test('a tensor is summed where it lies, or where it was copied to', async () => {
  const main = resolve('build/tests/examples/shared-tensors/main.js');
  assert.match((await run(process.execPath, [main])).stdout, /^sum 500500 by host$/m);
  const env = { ...process.env, RAYLITE_CUDA_LIBRARY: EMULATED };
  assert.match((await run(process.execPath, [main, '--gpu'], { env })).stdout, /^sum 500500 by ipc$/m);
});

test('the fine-tuning script trains, keeps checkpoints and names its model', async () => {
  const storage = await mkdtemp(join(tmpdir(), 'raylite-finetune-'));
  try {
    const flags = ['--steps', '4', '--every', '2', '--name', 'finetune', '--storage', storage];
    const { stdout } = await run(process.execPath, [resolve('examples/finetune/finetune.js'), ...flags]);
    assert.match(stdout, /^checkpoint after step 4$/m);
    const losses = JSON.parse(/^losses (.*)$/m.exec(stdout)?.[1] ?? '[]') as number[];
    assert.equal(losses.length, 4);
    assert.ok(stdout.includes(`model ${join(storage, 'finetune', 'model')}`));
  } finally {
    await rm(storage, { recursive: true });
  }
});

const spam = '../shared/data/sms-spam-train.jsonl';
test('a model of its own learns to tell spam from its words', {
  skip: !existsSync(spam) && `${spam} is absent`,
}, async () => {
  const { stdout } = await run(process.execPath, [resolve('build/tests/examples/own-model/main.js')]);
  const [, share] = /^ham, spam: ([\d.]+) % of 600 right, \d+ parameters$/m.exec(stdout) ?? [];
  assert.ok(Number(share) > 95, stdout);
});

test('a model says more and more of the alphabet while it learns it', async () => {
  const { stdout } = await run(process.execPath, [resolve('build/tests/examples/hybrid/main.js')]);
  assert.doesNotMatch(stdout, /^after 0 steps: abcdefghijk/m);
  assert.match(stdout, /^after 120 steps: abcdefghijk mnopqrstuvw$/m);
  assert.match(stdout, /^generation: 0 bytes of weights, \d+ of keys and values, \d+ of programs$/m);
});

test('the classifier tells spam from other messages', {
  skip: !existsSync(spam) && `${spam} is absent`,
}, async () => {
  const storage = await mkdtemp(join(tmpdir(), 'raylite-classify-'));
  try {
    const flags = ['--storage', storage, '--name', 'spam', '--steps', '60'];
    const { stdout } = await run(process.execPath, [resolve('build/tests/examples/classify/main.js'), ...flags]);
    assert.match(stdout, /^records 600$/m);
    assert.ok(Number(/^accuracy ([\d.]+)$/m.exec(stdout)?.[1]) > 0.95, stdout);
    assert.ok(Number(/^f1\.spam ([\d.]+)$/m.exec(stdout)?.[1]) > 0.8, stdout);
    assert.ok(existsSync(join(storage, 'spam', 'model', 'config.json')));
  } finally {
    await rm(storage, { recursive: true });
  }
});
