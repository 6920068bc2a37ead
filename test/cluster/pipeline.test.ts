// Pipelines through the Trainer: the losses and the model of one worker, a killed stage, checkpoints between numbers of stages.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import type { TrainingEvent } from '#src/train/index.js';
import { close, KEY_BIASES, rankPids, sameModel, tinyRuns } from './tiny-trainer.js';

const { pathOf, trainer } = tinyRuns('pipeline');
const staged = { scaling: { pipelineParallel: 2 } };
const recipe = { model: { kind: 'gpt2', layers: 4, hidden: 32, heads: 2 } } as const;
test('two stages, interleaved ones, and two stages of two data parallel workers give the losses and the model of one', async () => {
  const one = await trainer('one', 1, { recipe }).fit();
  const two = await trainer('two', 2, { ...staged, recipe }).fit();
  close(two.losses, one.losses);
  await sameModel(two.model, one.model, 1e-4, KEY_BIASES);
  const { pipeline, memory } = two.metrics;
  assert.deepEqual([pipeline!.stages, pipeline!.chunks, pipeline!.micros], [2, 1, 4]);
  assert.equal(pipeline!.scheduledIdleShare, 1 / 5);
  assert.ok(pipeline!.idleShare > 0 && pipeline!.idleShare < 1);
  assert.equal(one.metrics.pipeline, null);
  assert.ok(memory.parameterBytes < one.metrics.memory.parameterBytes);
  assert.equal(memory.measuredBytes, memory.totalBytes);

  const deepspeed = { pipeline: { stages: 2, virtual_stages: 2, partition_method: 'uniform' } };
  close((await trainer('interleaved', 2, { recipe, deepspeed }).fit()).losses, one.losses);
  const four = await trainer('four', 4, { ...staged, recipe }).fit();
  close(four.losses, one.losses);
  await sameModel(four.model, one.model, 1e-4, KEY_BIASES);
});

test('a stage that is killed is replaced and changes no bit; checkpoints open on other numbers of stages', async () => {
  const run = { checkpoint: { everySteps: 2, numToKeep: 9 }, failure: { maxFailures: 1 } };
  const undisturbed = await trainer('undisturbed', 2, { ...staged, recipe, run }).fit();
  let killed = 0;
  const events: TrainingEvent[] = [];
  const result = await trainer('disturbed', 2, { ...staged, recipe, run }).fit({
    onProgress(event) {
      events.push(event);
      if (event.kind !== 'step' || event.step !== 5 || killed > 0) return;
      killed += 1;
      process.kill(rankPids()[1]!, 'SIGKILL');
    },
  });
  assert.equal(result.metrics.failures, 1);
  assert.deepEqual(result.losses, undisturbed.losses);
  await sameModel(result.model, undisturbed.model, 0);
  const resume = { run: { ...run, resume: true }, recipe };
  for (const [workers, more] of [
    [1, {}],
    [4, staged],
    [2, { zero: 2 as const }],
  ] as const) {
    for (const step of [6, 8]) await rm(pathOf('disturbed', `checkpoint-00000${step}`), { recursive: true });
    close((await trainer('disturbed', workers, { ...resume, ...more }).fit()).losses, undisturbed.losses);
  }
});

test('an adapter over a base in stages is exported whole; bf16 stages follow one worker', async () => {
  const { model: base } = await trainer('base', 1, { recipe }).fit();
  const lora = { model: base, lora: { r: 4, lora_alpha: 16, lora_dropout: 0.1 }, learningRate: 0.01 };
  const one = await trainer('lora-1', 1, { recipe: lora }).fit();
  const two = await trainer('lora-2', 2, { ...staged, recipe: lora }).fit();
  close(two.losses, one.losses);
  await sameModel(two.model, one.model, 1e-4, KEY_BIASES);
  const deepspeed = { bf16: { enabled: true } };
  const bf16 = await trainer('bf16', 2, { ...staged, recipe, deepspeed }).fit();
  const alone = await trainer('bf16-1', 1, { recipe, deepspeed }).fit();
  for (const [step, loss] of bf16.losses.entries()) assert.ok(Math.abs(loss - alone.losses[step]!) < 2e-2);
});

test('what has no pipeline is refused by name before workers start', async () => {
  const refused = (workers: number, more: Parameters<typeof trainer>[2]) =>
    trainer('refused', workers, { recipe, ...more }).fit();
  await assert.rejects(refused(3, staged), /trainer.scaling.workers: expected a multiple of .* = 2.*Take 2 or 4/s);
  await assert.rejects(
    refused(8, { scaling: { pipelineParallel: 8 } }),
    /pipeline: expected at most 4 parts .*the blocks of the model/,
  );
  await assert.rejects(refused(2, { ...staged, zero: 3 }), /zero_optimization\.stage: expected 0 or 1 with a pipeline/);
  await assert.rejects(
    refused(2, { ...staged, deepspeed: { pipeline: { stages: 4 } } }),
    /pipeline\.stages: expected scaling\.pipelineParallel, 2, or "auto"/,
  );
  await assert.rejects(
    refused(2, { deepspeed: { pipeline: { stages: 2, partition_method: 'best-fit' } } }),
    /partition_method: expected parameters, uniform, cost or type:REGEX/,
  );
  const three = { train_batch_size: 3, pipeline: { stages: 2, virtual_stages: 2 } };
  await assert.rejects(refused(2, { deepspeed: three }), /Accumulate 2 or 4 micro-batches, or take one chunk a stage/);
});

test('a pipeline that its micro-batches cannot fill runs, and says what would fill it', async () => {
  const notes: string[] = [];
  const deepspeed = { train_batch_size: 1, train_micro_batch_size_per_gpu: 1 };
  const few = { ...staged, recipe: { ...recipe, maxSteps: 2 }, deepspeed };
  await trainer('few', 2, few).fit({ onProgress: (event) => event.kind === 'notes' && notes.push(...event.notes) });
  assert.match(
    notes.join(),
    /1 micro-batch a step cannot fill 2 stages, which wait 50 % of it: accumulating 8 would make that 11 %/,
  );
});
