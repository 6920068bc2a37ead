// The golden command as users run it: what must pass passes, what is not supported is named, a wrong path is an error.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { native } from '#src/native/index.js';

const ISAS = ['scalar', 'avx2', 'avx512'];
const VECTORS = '../shared/golden';
const TOKENIZERS = '../shared/data';
const skip = !existsSync(VECTORS) && `${VECTORS} is absent`;

interface Outcome {
  readonly code: number;
  readonly output: string;
}

function golden(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['build/tests/test/golden/main.js', ...args], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, output: stdout + stderr });
    });
  });
}

const FOLDERS = [
  'bert',
  'dpo_gpt2',
  'dpo_opt',
  'gpt2',
  'gpt2_bf16_checkpoint',
  'gpt_neox',
  'gpt_neox_serial',
  'llama',
  'llama3_rope',
  'llama_fp16_checkpoint',
  'llama_sharded',
  'llama_tied',
  'lora_gpt2',
  'lora_llama',
  'mistral',
  'opt',
  'opt_350m',
  'qwen2',
  'reward_gpt2',
  'reward_opt',
  'ops',
  'optim',
];

test('the reference results of the supported families and ops are met', { skip }, async () => {
  const { code, output } = await golden(...FOLDERS.map((name) => join(VECTORS, name)));
  assert.equal(code, 0, output);
  assert.match(output, /^156 passed, 0 failed, 14 skipped$/m);
});

for (const isa of ['scalar', 'avx2', 'avx512'] as const) {
  const lacksIsa = ISAS.indexOf(isa) > ISAS.indexOf(native().engineInfo().isa) && `this CPU has no ${isa}`;
  test(`${isa} alone meets the reference results of models and ops`, { skip: skip || lacksIsa }, async () => {
    const names = ['gpt2', 'llama_tied', 'qwen2', 'ops', 'optim'];
    const { code, output } = await golden('--isa', isa, ...names.map((name) => join(VECTORS, name)));
    assert.equal(code, 0, output);
  });
}

test('tokenizers give the reference ids and texts', { skip }, async () => {
  const dirs = ['tokenizer-4k', 'tokenizer-16k', 'tokenizer-llama-4k', 'tokenizer-bert-4k', 'tokenizer-gpt2'];
  const { code, output } = await golden(...dirs.flatMap((dir) => ['--tokenizer', join(TOKENIZERS, dir)]));
  assert.equal(code, 0, output);
  assert.match(output, /^14 passed, 0 failed, 0 skipped$/m);
});

test('an unsupported kind is skipped by name', { skip }, async () => {
  const { code, output } = await golden(join(VECTORS, 'ppo'));
  assert.equal(code, 0);
  assert.match(output, /skipped +ppo +actor +kind ppo_actor/);
  assert.match(output, /^0 passed, 0 failed, 5 skipped$/m);
});

test('a path without cases, a path that does not exist and no path at all are errors', async () => {
  const empty = await mkdtemp(join(tmpdir(), 'golden-'));
  try {
    for (const args of [[empty], [join(empty, 'nowhere')], [], ['--tokenizer', empty], ['--isa', 'mmx', empty]]) {
      assert.equal((await golden(...args)).code, 2, args.join(' '));
    }
  } finally {
    await rm(empty, { recursive: true });
  }
});
