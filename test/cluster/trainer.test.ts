// The Trainer on real processes: any number of workers gives the same losses, a killed worker is replaced and changes none,
// a run goes on from a checkpoint with another number of workers.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Checkpoint, SafetensorsFile } from '#src/models/index.js';
import { mergeAdapter, type SftOptions, sft, Trainer, type TrainingEvent } from '#src/train/index.js';
import { CLI } from '../support/cli.js';
import { close, rankPids, STEPS, tinyRuns, tokenizer } from './tiny-trainer.js';

const { pathOf, trainer } = tinyRuns('trainer');

test('one, two and four workers, at ZeRO stages 0, 1 and 2, give the same losses; the model is a Hugging Face folder', async () => {
  const one = await trainer('one', 1).fit();
  assert.equal(one.losses.length, STEPS);
  assert.ok(one.losses.at(-1)! < one.losses[0]!);
  assert.equal(one.metrics.memory.measuredBytes, one.metrics.memory.totalBytes);
  close((await trainer('two', 2).fit()).losses, one.losses);
  close((await trainer('two-zero-0', 2, { zero: 0 }).fit()).losses, one.losses);
  close((await trainer('two-zero-2', 2, { zero: 2 }).fit()).losses, one.losses);
  close((await trainer('four', 4).fit()).losses, one.losses);
  await using checkpoint = await Checkpoint.open(one.model);
  assert.equal(checkpoint.model.family, 'gpt2');
  assert.ok(existsSync(join(one.model, 'tokenizer.json')));
});

test('a checkpoint of two workers goes on with one worker and with four, to the same losses', async () => {
  const run = { checkpoint: { everySteps: 4, numToKeep: 1 } };
  const whole = await trainer('whole', 2, { run }).fit();
  assert.deepEqual((await readdir(pathOf('whole'))).sort(), ['checkpoint-000008', 'model']);
  for (const workers of [1, 4]) {
    const name = `resumed-${workers}`;
    const stopped = new AbortController();
    const stopAtCheckpoint = (event: TrainingEvent): void => {
      if (event.kind === 'checkpoint') stopped.abort(new Error('stopped by the test'));
    };
    const first = trainer(name, 2, { run }).fit({ onProgress: stopAtCheckpoint, signal: stopped.signal });
    await assert.rejects(first, /stopped by the test/);
    await assert.rejects(trainer(name, workers, { run }).fit(), /run\.name: expected a run without checkpoints/);
    const steps: number[] = [];
    const resumed = await trainer(name, workers, { run: { ...run, resume: true } }).fit({
      onProgress: (event) => event.kind === 'step' && steps.push(event.step),
    });
    assert.equal(steps[0], 5);
    close(resumed.losses, whole.losses);
  }
});

test('under Muon a checkpoint goes on at another stage with another number of workers, to the same losses', async () => {
  const optimizer = 'Muon';
  const whole = await trainer('muon', 1, { optimizer }).fit();
  const run = { checkpoint: { everySteps: 4 } };
  const { checkpoint } = await trainer('muon-2', 2, { optimizer, zero: 2, run }).fit();
  assert.ok(checkpoint);
  await rm(checkpoint, { recursive: true }); // the end is forgotten: go on from the middle
  const scaling = { tensorParallel: 2 }; // whose matrices are in parts
  const resumed = await trainer('muon-2', 4, { optimizer, zero: 1, scaling, run: { ...run, resume: true } }).fit();
  close(resumed.losses, whole.losses);
});

test('a worker killed or stopped in the middle is replaced; the losses are those of an undisturbed run, bit by bit', async () => {
  const run = { checkpoint: { everySteps: 2 }, failure: { maxFailures: 1 } };
  const undisturbed = await trainer('undisturbed', 2, { run }).fit();
  // Behind the last step nobody exchanges anything: there a rank that stands still is missed by its answer alone.
  for (const [signal, at] of [
    ['SIGKILL', 5],
    ['SIGSTOP', 5],
    ['SIGSTOP', undisturbed.losses.length],
  ] as const) {
    let sent = 0;
    const failures: string[] = [];
    const result = await trainer(`disturbed-${signal}-${at}`, 2, { run }).fit({
      onProgress(event) {
        if (event.kind === 'failed') failures.push(String(event.error));
        if (event.kind !== 'step' || event.step !== at || sent > 0) return;
        sent += 1;
        const pids = rankPids();
        assert.ok(pids.length >= 2, 'the ranks are found by their titles');
        process.kill(pids[1]!, signal);
      },
    });
    assert.equal(failures.length, 1);
    if (signal === 'SIGSTOP') assert.match(failures[0]!, /rank \d stands still: its process has given no sign of life/);
    assert.equal(result.metrics.failures, 1);
    assert.deepEqual(result.losses, undisturbed.losses);
  }
});

test('a float16 run goes on from a checkpoint behind an overflow with its loss scale, to the bits of an undisturbed run', async () => {
  const run = { checkpoint: { everySteps: 4, numToKeep: 1 } };
  const fp16 = { enabled: true, initial_scale_power: 32, hysteresis: 1, loss_scale_window: 2 };
  const more = { run, deepspeed: { fp16 } };
  const steps: { readonly lossScale: number | null; readonly skippedSteps: number }[] = [];
  const whole = await trainer('f16-whole', 2, more).fit({
    onProgress: (event) => event.kind === 'step' && steps.push(event),
  });
  assert.ok(steps[0]!.skippedSteps === 1, 'the first step overflows');
  assert.equal(steps[0]!.lossScale, 2 ** 31);
  assert.equal(whole.metrics.skippedSteps, steps.at(-1)!.skippedSteps);
  assert.equal(whole.metrics.lossScale, steps.at(-1)!.lossScale);
  const stopped = new AbortController();
  const first = trainer('f16-resumed', 2, more).fit({
    onProgress: (event) => event.kind === 'checkpoint' && stopped.abort(new Error('stopped by the test')),
    signal: stopped.signal,
  });
  await assert.rejects(first, /stopped by the test/);
  const resumed = await trainer('f16-resumed', 2, { ...more, run: { ...run, resume: true } }).fit();
  assert.deepEqual(resumed.losses, whole.losses);
  assert.equal(resumed.metrics.skippedSteps, whole.metrics.skippedSteps);
});

test('a bfloat16 run follows one in float32, resumes to its own bits, and leaves a bfloat16 model', async () => {
  const run = { checkpoint: { everySteps: 4, numToKeep: 1 } };
  const exact = await trainer('f32', 1).fit();
  const whole = await trainer('bf16-whole', 2, { run, recipe: { bf16: true } }).fit();
  for (const [step, loss] of whole.losses.entries()) assert.ok(Math.abs(loss - exact.losses[step]!) < 0.05);
  assert.ok(whole.metrics.memory.parameterBytes * 2 <= exact.metrics.memory.parameterBytes * 1.1);
  const stopped = new AbortController();
  const first = trainer('bf16-resumed', 2, { run, recipe: { bf16: true } }).fit({
    onProgress: (event) => event.kind === 'checkpoint' && stopped.abort(new Error('stopped by the test')),
    signal: stopped.signal,
  });
  await assert.rejects(first, /stopped by the test/);
  const resumed = trainer('bf16-resumed', 2, { run: { ...run, resume: true }, deepspeed: { bf16: { enabled: true } } });
  assert.deepEqual((await resumed.fit()).losses, whole.losses);
  const config = JSON.parse(await readFile(join(whole.model, 'config.json'), 'utf8')) as {
    readonly torch_dtype: string;
  };
  assert.equal(config.torch_dtype, 'bfloat16');
});

test('gradients that overflow at the smallest loss scale end the run with a way out', async () => {
  const fp16 = { enabled: true, initial_scale_power: 32, hysteresis: 1, min_loss_scale: 2 ** 32 };
  const failing = trainer('f16-floor', 1, { deepspeed: { fp16 }, run: { failure: { maxFailures: 3 } } });
  await assert.rejects(failing.fit(), { code: 'RAYLITE_TRAINING', message: /smallest loss scale.*bf16/ });
});

test('an adapter is trained over a folder: only it is kept, on any number of workers, and it is a model once added in', async () => {
  const { model: base } = await trainer('base', 1).fit();
  const lora = { r: 4, lora_alpha: 16, lora_dropout: 0.1 };
  const recipe = { model: base, lora, learningRate: 0.01 };
  const run = { checkpoint: { everySteps: 4 } };
  const one = await trainer('lora-1', 1, { recipe, run }).fit();
  assert.ok(one.metrics.memory.optimizerBytes < one.metrics.memory.parameterBytes);
  assert.ok(one.adapter !== null && one.checkpoint !== null);
  const two = await trainer('lora-2', 2, { recipe, run, zero: 2 }).fit();
  close(two.losses, one.losses);

  // A checkpoint holds the adapter and its state alone, and goes on like any other.
  const stored = await SafetensorsFile.open(join(one.checkpoint, 'rank-00000.safetensors'));
  assert.ok([...stored.tensors.keys()].every((name) => name.includes('.lora_')));
  await stored[Symbol.asyncDispose]();
  assert.ok(existsSync(join(one.checkpoint, 'adapter', 'adapter_model.safetensors')));
  await rm(one.checkpoint, { recursive: true });
  const resumed = await trainer('lora-1', 2, { recipe, run: { ...run, resume: true } }).fit();
  close(resumed.losses, one.losses);

  const merged = await mergeAdapter(one.adapter, pathOf('merged'), { base });
  await using left = await Checkpoint.open(merged);
  await using right = await Checkpoint.open(resumed.model);
  for (const name of left.parameters.keys()) {
    const expected = await right.read(name);
    const worst = (await left.read(name)).reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0);
    assert.ok(worst < 1e-6, `${name} differs by ${worst}`);
  }
  const generate = (...more: string[]) =>
    execFileSync(process.execPath, [CLI, 'generate', ...more, '--max-new-tokens', '8', '2 + 2 ='], {
      encoding: 'utf8',
    });
  assert.equal(generate(base, '--adapter', one.adapter), generate(merged));
  const cli = pathOf('merged-by-cli');
  execFileSync(process.execPath, [CLI, 'merge', one.adapter, cli, '--dtype', 'bf16']);
  assert.ok(existsSync(join(cli, 'tokenizer.json')));
});

test('QLoRA: the base is frozen in 4 bits, and only with an adapter', async () => {
  const { model } = await trainer('base-4', 1).fit();
  const plain = { model, lora: { rank: 4 } };
  const recipe = { ...plain, quantization: { bits: 4, type: 'nf4', doubleQuant: true } } as const;
  const exact = await trainer('lora-exact', 1, { recipe: plain }).fit();
  const packed = await trainer('qlora', 1, { recipe }).fit();
  close(
    await trainer('qlora-2', 2, { recipe, zero: 2 })
      .fit()
      .then(({ losses }) => losses),
    packed.losses,
  );
  // Each of two rounds its part of the base.
  const parted = await trainer('qlora-tensor', 2, { recipe, scaling: { tensorParallel: 2 } }).fit();
  assert.ok(parted.losses.every((loss, step) => Math.abs(loss - packed.losses[step]!) < 0.05));
  assert.ok(packed.metrics.memory.parameterBytes < exact.metrics.memory.parameterBytes);
  assert.equal(packed.metrics.memory.optimizerBytes, exact.metrics.memory.optimizerBytes);
  assert.ok(packed.losses.every((loss, step) => Math.abs(loss - exact.losses[step]!) < 0.1));
  await using checkpoint = await Checkpoint.open(packed.model); // the values of the base, with the adapter added in
  assert.ok(checkpoint.parameters.size > 0);
  const alone = { model, quantization: { bits: 4 } } as const;
  assert.throws(() => trainer('alone', 1, { recipe: alone }), /sft\.quantization: expected lora beside it/);
});

test('a loss that is not finite ends the run, naming the step, without another try', async () => {
  const failing = trainer('diverging', 2, { learningRate: 1e30, run: { failure: { maxFailures: 3 } } });
  const failures: TrainingEvent[] = [];
  await assert.rejects(failing.fit({ onProgress: (event) => event.kind === 'failed' && failures.push(event) }), {
    message:
      /step \d+: the loss is NaN and the gradient's norm NaN, at generated:\d+ \(row \d+\), first in instruction \d+ \(.*\): .*\[\d+\] is not finite/,
    code: 'RAYLITE_ENGINE',
  });
  assert.deepEqual(failures, []);
});

test('a signal that comes while the workers start ends the run', async () => {
  const controller = new AbortController();
  const run = trainer('interrupted', 2).fit({
    signal: controller.signal,
    onProgress: (event) => {
      assert.notEqual(event.kind, 'step');
      if (event.kind === 'data') setImmediate(() => controller.abort(new Error('enough')));
    },
  });
  await assert.rejects(run, /enough/);
});

test('dropout and activation checkpointing: the same losses with any number of workers, in less memory', async () => {
  const kept = await trainer('kept', 1, { recipe: { dropout: 0.1 } }).fit();
  const again = await trainer('again', 1, { recipe: { dropout: 0.1, gradientCheckpointing: true } }).fit();
  assert.deepEqual(again.losses, kept.losses);
  assert.ok(again.metrics.memory.activationBytes < kept.metrics.memory.activationBytes);
  const shared = await trainer('shared', 2, { recipe: { dropout: 0.1, gradientCheckpointing: { every: 2 } } }).fit();
  close(shared.losses, kept.losses);
  const plain = await trainer('undropped', 1).fit();
  assert.notDeepEqual(plain.losses, kept.losses);
});

test('label smoothing and z-loss add to the loss in proportion, the same with any number of workers', async () => {
  const first = async (name: string, recipe: Partial<SftOptions>) =>
    (await trainer(name, 1, { recipe: { ...recipe, maxSteps: 1 } }).fit()).losses[0]!;
  const plain = await first('plain-loss', {});
  for (const [key, low] of [
    ['labelSmoothing', 0.2],
    ['zLoss', 0.01],
  ] as const) {
    const added = (await first(`${key}-low`, { [key]: low })) - plain;
    const doubled = (await first(`${key}-high`, { [key]: 2 * low })) - plain;
    assert.ok(Math.abs(doubled - 2 * added) < 1e-4 && Math.abs(added) > 1e-4, `${key}: ${added}, ${doubled}`);
  }
  const recipe = { labelSmoothing: 0.1, zLoss: 1e-3 };
  const alone = await trainer('smoothed', 1, { recipe }).fit();
  close((await trainer('smoothed-2', 2, { recipe }).fit()).losses, alone.losses);
  assert.throws(() => trainer('too-smooth', 1, { recipe: { labelSmoothing: 1 } }), /sft\.labelSmoothing: expected/);
});

test('a record without an answer is refused by name before workers start', async () => {
  const broken = new Trainer({
    recipe: sft({
      model: { kind: 'gpt2', layers: 1, hidden: 32, heads: 2 },
      data: { records: [{ kind: 'alpaca', instruction: 'Say nothing.', input: '', output: '' }] },
      tokenizer,
      template: 'short',
      sequenceLength: 64,
    }),
    run: { storage: pathOf(), name: 'broken' },
  });
  await assert.rejects(broken.fit(), /^DataError: record 1: has no token to train on: the answer is empty/);
});
