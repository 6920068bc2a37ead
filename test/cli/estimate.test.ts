// `raylite estimate` weighs a training file without starting anything; the library gives the same figures.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { trainBpe } from '#src/data/index.js';
import { type Estimate, estimate, sft } from '#src/train/index.js';
import { CLI } from '../support/cli.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const tokenizer = trainBpe(['one two three four five six seven eight nine ten'], { vocabSize: 300 });
const MODEL = { kind: 'gpt2', layers: 4, hidden: 32, heads: 2 } as const;

/** The output of `raylite estimate` for a recipe, in a folder of its own. */
async function run(recipe: object, ...flags: readonly string[]) {
  return runScaled(recipe, {}, ...flags);
}

async function runScaled(recipe: object, scaling: object, ...flags: readonly string[]) {
  using folder = temporaryFolder();
  const place = join(folder.path, 'tokenizer');
  mkdirSync(place);
  await tokenizer.save(place);
  const file = join(folder.path, 'job.json');
  const base = { kind: 'sft', model: MODEL, data: 'none.jsonl', tokenizer: place, sequenceLength: 64 };
  writeFileSync(file, JSON.stringify({ recipe: { ...base, ...recipe }, scaling: { workers: 2, ...scaling } }));
  const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, 'estimate', file, ...flags], {
    encoding: 'utf8',
  });
  return { out: stdout, err: stderr, status };
}

test('a training file is weighed by use, with the life of every tensor on request', async () => {
  const { out, status } = await run({ gradientCheckpointing: false }, '--lives');
  assert.equal(status, 0);
  assert.match(out, /^0\.1 M parameters, 2 workers, ZeRO stage 1, micro-batches of 1 × 64 tokens$/m);
  assert.match(out, /^optimizer state +[\d.]+ kB$/m);
  assert.match(out, /^activations: the backward keeps everything; peak [\d.]+ kB, at least [\d.]+ kB$/m);
  assert.match(out, /^\|[ ▁▂▃▄▅▆▇█]{72}\| live over the \d+ instructions/m);
  assert.match(out, /^transformer\.h\.0\.attn +\d+ +\d+ +#\d+ to #\d+$/m);
});

test('the figures are those of the library, and checkpointing lowers them', async () => {
  const { out } = await run({ gradientCheckpointing: true }, '--json');
  const found = JSON.parse(out) as Estimate;
  const recipe = { model: MODEL, data: 'none.jsonl', tokenizer, sequenceLength: 64 };
  const scaling = { workers: 2 };
  assert.deepEqual(await estimate({ recipe: sft({ ...recipe, gradientCheckpointing: true }), scaling }), found);
  const whole = await estimate({ recipe: sft(recipe), scaling });
  assert.ok(found.memory.activationBytes < whole.memory.activationBytes);
  const { totalBytes, ...parts } = found.memory;
  assert.equal(
    Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
    totalBytes,
  );
});

test('a budget that nothing fits is told with what would', async () => {
  const { err, status } = await run({ gradientCheckpointing: { budgetMiB: 0.01 } });
  assert.equal(status, 1);
  assert.match(
    err,
    /recompute.budgetBytes: expected at least \d+ bytes .* got 10485. Give more, or make the micro-batch smaller/,
  );
});

test('a limit of memory computes again what does not fit, and only then', async () => {
  const recipe = { model: MODEL, data: 'none.jsonl', tokenizer, sequenceLength: 64, microBatch: 4 };
  const totalOf = async (more: object, memoryMiBPerWorker?: number) =>
    estimate({
      recipe: sft({ ...recipe, ...more }),
      scaling: { workers: 2, ...(memoryMiBPerWorker && { memoryMiBPerWorker }) },
    });
  const whole = await totalOf({});
  const least = await totalOf({ gradientCheckpointing: true });
  const mib = (bytes: number) => bytes / 2 ** 20;
  const between = mib((whole.memory.totalBytes + least.memory.totalBytes) / 2);
  assert.equal((await totalOf({}, mib(whole.memory.totalBytes))).recompute, whole.recompute);
  const fitted = await totalOf({}, between);
  assert.notEqual(fitted.recompute, whole.recompute);
  assert.ok(mib(fitted.memory.totalBytes) <= between);
  const { out } = await runScaled({ microBatch: 4 }, { memoryMiBPerWorker: between });
  assert.match(out, /^activations: the backward makes \d+ tensors/m);
});

test('what is offloaded does not count for the limit, and is shown apart; where it would fit, it is named', async () => {
  const recipe = { model: MODEL, data: 'none.jsonl', tokenizer, sequenceLength: 64, gradientCheckpointing: true };
  const deepspeed = { zero_optimization: { stage: 1, offload_optimizer: { device: 'cpu' } } } as const;
  const kept = await estimate({ recipe: sft(recipe) });
  const moved = await estimate({ recipe: sft(recipe), deepspeed });
  assert.equal(moved.memory.optimizerBytes, 0);
  assert.ok(moved.memory.hostBytes >= kept.memory.optimizerBytes);
  const memoryMiBPerWorker = (moved.memory.totalBytes + 4096) / 2 ** 20;
  assert.ok(memoryMiBPerWorker < kept.memory.totalBytes / 2 ** 20);
  const scaling = { memoryMiBPerWorker };
  assert.deepEqual((await estimate({ recipe: sft(recipe), deepspeed, scaling })).memory, moved.memory);
  await assert.rejects(
    estimate({ recipe: sft(recipe), scaling }),
    /memoryMiBPerWorker: .*offload_optimizer to "cpu" would fit/,
  );
});

test('a limit that nothing fits is refused with the least and the nearest change that fits', async () => {
  const recipe = { model: MODEL, data: 'none.jsonl', tokenizer, sequenceLength: 64 };
  const one = await estimate({ recipe: sft({ ...recipe, gradientCheckpointing: true }), scaling: { workers: 2 } });
  const scaling = { memoryMiBPerWorker: (one.memory.totalBytes + 4096) / 2 ** 20 };
  const { err, status } = await runScaled({ microBatch: 8 }, scaling);
  assert.equal(status, 1);
  assert.match(
    err,
    /scaling\.memoryMiBPerWorker: expected at least \d+, what a worker needs that computes each block again, got .*With gradientCheckpointing, a micro-batch of 1 would fit/,
  );
  const hopeless = await runScaled({}, { memoryMiBPerWorker: 0.01 });
  assert.match(hopeless.err, /take a smaller model or shorter sequences/);
});

test('in 16 bits parameters take half, and optimizer states gain the masters', async () => {
  const recipe = { model: MODEL, data: 'none.jsonl', tokenizer, sequenceLength: 64 };
  const { memory: exact } = await estimate({ recipe: sft(recipe) });
  for (const more of [{ bf16: true }, { fp16: true }]) {
    const { memory } = await estimate({ recipe: sft({ ...recipe, ...more }) });
    assert.ok(Math.abs(memory.parameterBytes / exact.parameterBytes - 0.5) < 0.01);
    assert.equal(memory.gradientBytes, exact.gradientBytes);
    assert.ok(Math.abs(memory.optimizerBytes / exact.optimizerBytes - 1.5) < 0.01);
    assert.ok(memory.activationBytes < exact.activationBytes);
  }
});

test('a number of parameters is weighed by the formulas of ZeRO, and goes without a file', () => {
  const cli = (...args: readonly string[]) =>
    spawnSync(process.execPath, [CLI, 'estimate', ...args], { encoding: 'utf8' });
  const table = cli('--params', '7.5e9');
  assert.equal(table.status, 0, table.stderr);
  assert.match(table.stdout, /^workers +stage 0 +stage 1 +stage 2 +stage 3$/m);
  assert.match(table.stdout, /^1 +120\.00 GB +120\.00 GB +120\.00 GB +120\.00 GB$/m);
  assert.match(table.stdout, /^64 +120\.00 GB +31\.41 GB +16\.64 GB +1\.88 GB$/m);
  assert.match(table.stdout, /^1024 .* 117\.19 MB$/m);
  const one = JSON.parse(cli('--params', '1e12', '--workers', '1024', '--json').stdout) as object;
  const bytes = [16e12, 4e12 + 12e12 / 1024, 2e12 + 14e12 / 1024, 16e12 / 1024];
  assert.deepEqual(one, { parameters: 1e12, rows: [{ workers: 1024, bytes }] });
  assert.match(cli().stderr, /give a training file or --params/);
  assert.match(cli('--params', 'many').stderr, /Expected a positive whole number/);
  assert.match(cli('examples/sft/sft.json', '--workers', '2').stderr, /a training file has scaling\.workers/);
});

test('a training file at ZeRO stage 3 needs its share of the parameters', () => {
  const memoryOf = (file: string) =>
    (
      JSON.parse(
        spawnSync(process.execPath, [CLI, 'estimate', file, '--json'], { encoding: 'utf8' }).stdout,
      ) as Estimate
    ).memory;
  const [first, third] = [memoryOf('examples/sft/sft.json'), memoryOf('examples/sft/zero-3.json')];
  assert.ok(third.parameterBytes < 0.55 * first.parameterBytes && third.gradientBytes < 0.55 * first.gradientBytes);
});
