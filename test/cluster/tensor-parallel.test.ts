// Tensor and sequence parallelism through the Trainer: the losses and the model of one worker, a killed worker, checkpoints between
// layouts, and what is refused before any worker starts.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import type { TrainingEvent } from '#src/train/index.js';
import { close, KEY_BIASES, rankPids, sameModel, type TinyOptions, tinyRuns } from './tiny-trainer.js';

const { pathOf, trainer } = tinyRuns('tensor');

test('two workers on each matrix, two on the rows of each micro-batch, and both give the losses and the model of one', async () => {
  const one = await trainer('one', 1).fit();
  const tensor = await trainer('tensor', 2, { scaling: { tensorParallel: 2 } }).fit();
  close(tensor.losses, one.losses);
  await sameModel(tensor.model, one.model, 1e-4, KEY_BIASES);
  const { memory, parameterCount } = tensor.metrics;
  assert.equal(parameterCount, one.metrics.parameterCount);
  assert.ok(memory.parameterBytes < 0.6 * one.metrics.memory.parameterBytes);
  assert.equal(memory.measuredBytes, memory.totalBytes);

  const rows = await trainer('rows', 2, { deepspeed: { sequence_parallel_size: 2 }, zero: 2 }).fit();
  close(rows.losses, one.losses);
  await sameModel(rows.model, one.model, 1e-4, KEY_BIASES);

  const split = await trainer('split', 2, { scaling: { tensorParallel: 2, sequenceParallelNorms: true } }).fit();
  close(split.losses, one.losses);
  await sameModel(split.model, one.model, 1e-4, KEY_BIASES);
  assert.ok(split.metrics.memory.activationBytes < memory.activationBytes);

  const recipe = { model: { kind: 'gpt2', layers: 2, hidden: 32, heads: 4 } } as const;
  const four = await trainer('four', 1, { recipe }).fit();
  const both = await trainer('both', 4, {
    recipe,
    scaling: { sequenceParallel: 2 },
    deepspeed: { tensor_parallel: { autotp_size: 2 } },
    zero: 3,
  }).fit();
  close(both.losses, four.losses);
  await sameModel(both.model, four.model, 1e-4, KEY_BIASES);
});

test('a worker that is killed is replaced and changes no bit; checkpoints open on any layout', async () => {
  const run = { checkpoint: { everySteps: 2, numToKeep: 9 }, failure: { maxFailures: 1 } };
  const tensor = { scaling: { tensorParallel: 2 } };
  const undisturbed = await trainer('undisturbed', 2, { ...tensor, run }).fit();
  let killed = 0;
  const events: TrainingEvent[] = [];
  const result = await trainer('disturbed', 2, { ...tensor, run }).fit({
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

  const layouts: readonly (readonly [number, TinyOptions])[] = [
    [1, {}],
    [2, { zero: 3 }],
    [4, { ...tensor, zero: 2 }],
    [2, { scaling: { sequenceParallel: 2 } }],
    [4, { scaling: { tensorParallel: 2, pipelineParallel: 2 } }],
    [2, tensor],
  ];
  for (const [index, [workers, more]] of layouts.entries()) {
    await rm(pathOf('disturbed', 'checkpoint-000008'), { recursive: true });
    if (index === 0) await rm(pathOf('disturbed', 'checkpoint-000006'), { recursive: true });
    const resumed = await trainer('disturbed', workers, { ...more, run: { ...run, resume: true } }).fit();
    close(resumed.losses, undisturbed.losses);
    await sameModel(resumed.model, undisturbed.model, 1e-4, KEY_BIASES);
  }
});

test('what cannot be shared so is refused before a worker starts, with what would fit', async () => {
  await assert.rejects(
    trainer('odd', 3, { scaling: { tensorParallel: 2 } }).fit(),
    /trainer.scaling.workers: expected a multiple of .* = 2 × 1 × 1 = 2, got 3. Take 2 or 4/,
  );
  await assert.rejects(
    trainer('heads', 4, { scaling: { tensorParallel: 4 } }).fit(),
    /tensorParallel: expected a number that the 2 heads of .* cut into, got 4. The nearest that fits is 2/,
  );
  await assert.rejects(
    trainer('rows', 4, { scaling: { sequenceParallel: 4 } }).fit(),
    /sequenceParallel: expected a number that the 2 heads of .* cut into, got 4. The nearest that fits is 2/,
  );
  await assert.rejects(
    trainer('norms', 2, { scaling: { sequenceParallelNorms: true } }).fit(),
    /trainer.scaling.sequenceParallelNorms: expected false without tensorParallel/,
  );
  await assert.rejects(
    trainer('twice', 2, { scaling: { tensorParallel: 2 }, deepspeed: { tensor_parallel: { autotp_size: 4 } } }).fit(),
    /deepspeed.tensor_parallel.autotp_size: expected scaling.tensorParallel, 2, or nothing, got 4/,
  );
});
