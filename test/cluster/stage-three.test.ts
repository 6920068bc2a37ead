// ZeRO stage 3 through the Trainer: the losses and the model of one worker, a killed worker, other stages, adapters over sliced bases.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import type { DsConfigInput, TrainingEvent } from '#src/train/index.js';
import { close, rankPids, sameModel, tinyRuns } from './tiny-trainer.js';

const { pathOf, trainer } = tinyRuns('stage-3');

/** Nothing of so small a model persists, and everything is released as soon as it can be. */
const deepspeed: DsConfigInput = {
  zero_optimization: { stage: 3, stage3_param_persistence_threshold: 0, stage3_max_reuse_distance: 0 },
};

test('two and four workers give the losses of one and the bits of stage 2, in slices of the parameters', async () => {
  const one = await trainer('one', 1).fit();
  for (const workers of [2, 4]) {
    const sliced = await trainer(`sliced-${workers}`, workers, { deepspeed }).fit();
    close(sliced.losses, one.losses);
    const reduced = await trainer(`stage-2-${workers}`, workers, { zero: 2 }).fit();
    assert.deepEqual(sliced.losses, reduced.losses);
    await sameModel(sliced.model, reduced.model, 0);
    const { parameterBytes, totalBytes, measuredBytes } = sliced.metrics.memory;
    assert.ok(parameterBytes <= (1.02 * one.metrics.memory.parameterBytes) / workers, `${parameterBytes} bytes`);
    assert.equal(measuredBytes, totalBytes);
  }
  const keys = { deepspeed: { zero_optimization: { stage: 3, sub_group_size: 1e9 } } };
  const told: string[] = [];
  const persistent = await trainer('persistent', 2, keys).fit({
    onProgress: (event) => event.kind === 'notes' && told.push(...event.notes),
  });
  close(persistent.losses, one.losses);
  assert.match(told.join(), /sub_group_size has no effect/);
});

test('a killed worker changes no bit, and a checkpoint opens on another number of workers at another stage', async () => {
  const run = { checkpoint: { everySteps: 2, numToKeep: 9 }, failure: { maxFailures: 1 } };
  const undisturbed = await trainer('undisturbed', 2, { run, deepspeed }).fit();
  let killed = 0;
  const events: TrainingEvent[] = [];
  const result = await trainer('disturbed', 2, { run, deepspeed }).fit({
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

  const resume = { run: { ...run, resume: true } };
  for (const [workers, more] of [
    [1, {}],
    [4, { deepspeed }],
    [2, { zero: 2 as const }],
  ] as const) {
    for (const step of [6, 8]) await rm(pathOf('disturbed', `checkpoint-00000${step}`), { recursive: true });
    const resumed = await trainer('disturbed', workers, { ...resume, ...more }).fit();
    close(resumed.losses, undisturbed.losses);
  }
});

test('parameters in a file: the bits of stage 3, for one worker and two, from a checkpoint on, with samples', async () => {
  const onDisk = (maxInCpu: number): DsConfigInput => ({
    zero_optimization: {
      ...(deepspeed.zero_optimization as object),
      offload_param: { device: 'nvme', nvme_path: pathOf(), max_in_cpu: maxInCpu, buffer_count: 2, buffer_size: 4096 },
    },
  });
  for (const workers of [1, 2]) {
    const plain = await trainer(`memory-${workers}`, workers, { deepspeed }).fit();
    for (const maxInCpu of [0, 20_000]) {
      const name = `disk-${workers}-${maxInCpu}`;
      const moved = await trainer(name, workers, { deepspeed: onDisk(maxInCpu) }).fit();
      assert.deepEqual(moved.losses, plain.losses);
      await sameModel(moved.model, plain.model, 0);
      const { parameterBytes, diskBytes, hostBytes, measuredHostBytes, measuredBytes, totalBytes } =
        moved.metrics.memory;
      assert.equal(parameterBytes, 0);
      assert.ok(diskBytes + 4 * maxInCpu >= plain.metrics.memory.parameterBytes, `${diskBytes} bytes on disk`);
      assert.equal(measuredHostBytes, hostBytes);
      assert.equal(measuredBytes, totalBytes);
    }
  }
  const said: string[] = [];
  const run = { checkpoint: { everySteps: 4, numToKeep: 1 }, samples: { prompts: ['Count.'], everySteps: 4 } };
  const whole = await trainer('sampled', 2, { deepspeed, run }).fit();
  const stopped = new AbortController();
  const first = trainer('filed', 2, { deepspeed: onDisk(0), run }).fit({
    signal: stopped.signal,
    onProgress(event) {
      if (event.kind === 'checkpoint') stopped.abort(new Error('stopped by the test'));
    },
  });
  await assert.rejects(first, /stopped by the test/);
  const resumed = await trainer('filed', 1, { deepspeed: onDisk(0), run: { ...run, resume: true } }).fit({
    onProgress: (event) => event.kind === 'samples' && said.push(JSON.stringify(event)),
  });
  close(resumed.losses, whole.losses);
  assert.ok(said.length > 0);
});

test('in bf16 and under Muon stage 3 follows one worker', async () => {
  const bf16 = { ...deepspeed, bf16: { enabled: true } };
  const one = await trainer('bf16-1', 1, { deepspeed: { bf16: { enabled: true } } }).fit();
  const two = await trainer('bf16-2', 2, { deepspeed: bf16 }).fit();
  for (const [step, loss] of two.losses.entries()) assert.ok(Math.abs(loss - one.losses[step]!) < 2e-2);
  const muon = await trainer('muon-1', 1, { optimizer: 'Muon' }).fit();
  close((await trainer('muon-2', 2, { optimizer: 'Muon', deepspeed }).fit()).losses, muon.losses);
});

test('ZeRO++ on four workers of two "machines": near the losses of one, compared with plain exchanges first', async () => {
  const one = await trainer('plain', 1).fit();
  const zero = { ...(deepspeed.zero_optimization as object), zero_hpz_partition_size: 2 };
  const hpz = await trainer('hpz', 4, { deepspeed: { zero_optimization: zero } }).fit();
  close(hpz.losses, one.losses);
  const keys = { ...zero, zero_quantized_weights: true, zero_quantized_gradients: true };
  const plus = await trainer('plus', 4, { deepspeed: { zero_optimization: keys } }).fit();
  assert.notDeepEqual(plus.losses, hpz.losses);
  for (const [step, loss] of plus.losses.entries())
    assert.ok(Math.abs(loss / one.losses[step]! - 1) < 0.03, `step ${step}: ${loss} and ${one.losses[step]}`);
  await assert.rejects(
    trainer('uneven', 4, { deepspeed: { zero_optimization: { ...zero, zero_hpz_partition_size: 3 } } }).fit(),
    /zero_hpz_partition_size: expected a divisor of the 4 workers/,
  );
});

test('adapters over a frozen base in slices, also in 4 bits, and their export', async () => {
  const { model: base } = await trainer('base', 1).fit();
  const lora = { r: 4, lora_alpha: 16, lora_dropout: 0.1 };
  for (const quantization of [null, { bits: 4, type: 'nf4', doubleQuant: true }] as const) {
    const recipe = { model: base, lora, learningRate: 0.01, ...(quantization ? { quantization } : {}) };
    const kind = quantization ? 'nf4' : 'plain';
    const one = await trainer(`lora-1-${kind}`, 1, { recipe }).fit();
    const three = await trainer(`lora-2-${kind}`, 2, { recipe, deepspeed }).fit();
    close(three.losses, one.losses);
    await sameModel(three.model, one.model, 1e-5);
    assert.ok(three.metrics.memory.parameterBytes < 0.6 * one.metrics.memory.parameterBytes);
  }
});
