// What is seen of a run on real processes: curves through the loss of a worker, tables of a profile, a momentum that moves.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { EngineError, TrainingError } from '#src/common/index.js';
import type { DsConfigInput, LateNews, Recipe } from '#src/train/index.js';
import { lateAt } from './slow-data.js';
import { close, rankPids, STEPS, tinyRuns } from './tiny-trainer.js';

const { pathOf, trainer } = tinyRuns('watched');
const ROWS = 4;

const pointsOf = async (...path: readonly string[]) =>
  (await readFile(pathOf(...path), 'utf8'))
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map(Number));

test('curves of a run that lost a worker have each step once, over rows for DeepSpeed and over steps for reportTo', async () => {
  const run = {
    checkpoint: { everySteps: 2 },
    failure: { maxFailures: 1 },
    reportTo: ['csv' as const, 'tensorboard' as const],
  };
  const csv_monitor = { enabled: true, output_path: pathOf('csv'), job_name: 'job' };
  let isKilled = false;
  const { losses, metrics } = await trainer('curves', 2, {
    run,
    deepspeed: { train_batch_size: ROWS, csv_monitor },
  }).fit({
    onProgress: (event) => {
      if (event.kind !== 'step' || event.step !== 5 || isKilled) return;
      isKilled = true;
      process.kill(rankPids()[0]!, 'SIGKILL');
    },
  });
  assert.equal(metrics.failures, 1);
  assert.deepEqual(
    await pointsOf('csv', 'job', 'Train_Samples_train_loss.csv'),
    losses.map((loss, step) => [(step + 1) * ROWS, loss]),
  );
  assert.deepEqual(
    await pointsOf('curves', 'runs', 'train_loss.csv'),
    losses.map((loss, step) => [step + 1, loss]),
  );
});

test('flops_profiler and comms_logger write the tables of the step that they name, and losses stay the same', async () => {
  const output_file = pathOf('tables', 'step.txt');
  const plain = await trainer('plain', 2).fit();
  const deepspeed = {
    flops_profiler: { enabled: true, profile_step: 3, detailed: false, top_modules: 2, output_file },
    comms_logger: { enabled: true },
  };
  const shown: [number, string][] = [];
  const profiled = await trainer('profiled', 2, { deepspeed }).fit({
    onProgress: (event) => event.kind === 'profile' && shown.push([event.step, event.text]),
  });
  close(profiled.losses, plain.losses);
  const [[step, text]] = shown as [[number, string]];
  assert.equal(step, 3);
  assert.equal(await readFile(output_file, 'utf8'), `${text}\n`);
  const [instructions, exchanges] = text.split('\n\n').slice(1);
  assert.equal(instructions!.split('\n').length, 3);
  assert.match(exchanges!, /^exchange +message +ranks [\s\S]*^reduce_scatter +\S+ \S+ +2 /m);
});

test('OneCycle moves momentum and rate: the same losses on one worker, on two and offloaded, others than with a momentum that stays', async () => {
  const cycle = { cycle_min_lr: 1e-3, cycle_max_lr: 1e-2, cycle_first_step_size: STEPS / 2 };
  const losses = async (name: string, workers: number, more: object = {}, beside: DsConfigInput = {}) => {
    const scheduler = { type: 'OneCycle', params: { ...cycle, ...more } } as const;
    return (await trainer(name, workers, { deepspeed: { scheduler, ...beside } }).fit()).losses;
  };
  const one = await losses('cycle-1', 1);
  close(await losses('cycle-2', 2), one);
  const offloaded = { stage: 2, offload_optimizer: { device: 'cpu' } } as const;
  close(await losses('cycle-offloaded', 2, {}, { zero_optimization: offloaded }), one);
  const stays = await losses('cycle-stays', 1, { cycle_momentum: false });
  assert.ok(Math.abs(stays.at(-1)! - one.at(-1)!) > 1e-3);
});

test('a worker whose data is late is told by name while the others wait, once, and the run goes on as without', async () => {
  const plain = await trainer('in-time', 4).fit();
  const heard: LateNews[] = [];
  const { losses } = await trainer('late', 4, {
    change: (recipe) => lateAt(recipe, { step: 4, place: 2, ms: 7000 }),
  }).fit({ onProgress: (event) => event.kind === 'late' && heard.push(event) });
  close(losses, plain.losses);
  assert.deepEqual(
    heard.map(({ ranks }) => ranks),
    [[2]],
  );
  assert.match(
    heard[0]!.message,
    /^rank 2 is late: rank [013] has waited \d\.\d s in .+ of .+ at instruction \d+ \((reduce_scatter|all_reduce|all_gather)/,
  );
});

test('a worker that is late for longer than collectiveTimeoutSeconds ends the run with its name', async () => {
  const change = (recipe: Recipe) => lateAt(recipe, { step: 2, place: 1, ms: 60_000 });
  const run = { failure: { collectiveTimeoutSeconds: 5 } };
  await assert.rejects(trainer('too-late', 2, { change, run }).fit(), (error: TrainingError) => {
    assert.ok(error instanceof TrainingError);
    assert.match(error.message, /rank 1 is late: nothing came from it for 5\d{3} ms/);
    assert.match(error.message, /while rank 0 waited for it in .* at instruction \d+ /);
    return true;
  });
});

test('a loss that is not finite names step, record, rank and op where the ranks exchange within a micro-batch', async () => {
  await assert.rejects(trainer('infinite', 2, { zero: 2, learningRate: 1e30 }).fit(), (error: EngineError) => {
    assert.ok(error instanceof EngineError);
    assert.match(error.message, /step \d: the loss is (NaN|Infinity) and the gradient's norm NaN, at .*\(row \d+\)/);
    assert.match(error.message, /, first in instruction \d+ \(\w+, [\w.]+\): \w+\[\d+\] is not finite, on rank [01]\./);
    return true;
  });
});
