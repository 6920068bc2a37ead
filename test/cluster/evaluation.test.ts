// A run that measures what it holds out while it learns: the same figures however the model is shared out, through failures too, and those of
// the model that it leaves; the best of them decides which model that is, and when the run is over.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { EvaluatedEvent, HeldOutLoss, TrainingEvent, TrainingResult } from '#src/train/index.js';
import { close, STEPS, sameModel, type TinyOptions, tinyRuns } from './tiny-trainer.js';

const { trainer, pathOf } = tinyRuns('evaluation');

const EVERY = { evaluation: { everySteps: 3 } };
const lossesOf = (measured: readonly HeldOutLoss[]) => measured.map(({ loss }) => loss);

/** With a tenth of the records held out. */
const heldOut = (more: TinyOptions): TinyOptions => ({ ...more, recipe: { heldOut: 0.1, ...more.recipe } });

/** Learns its few rows by heart, so that what is held out gets worse again. */
const FORGETFUL: TinyOptions = { recipe: { heldOut: 0.9, maxSteps: 60, dropout: 0 }, learningRate: 2e-2 };

test('however the model is shared out, losses are those of one worker, and the last is that of the folder', async () => {
  const one = await trainer('one', 1, heldOut({ run: EVERY })).fit();
  assert.deepEqual(
    one.heldOutLosses.map(({ step }) => step),
    [3, 6, STEPS],
  );
  assert.ok(Math.abs(one.evaluation!.loss! - one.heldOutLosses.at(-1)!.loss) < 1e-4);
  const layouts: Readonly<Record<string, readonly [number, TinyOptions]>> = {
    slices: [3, { zero: 3, deepspeed: { train_batch_size: 3 } }],
    stages: [2, { scaling: { pipelineParallel: 2 } }],
    matrices: [2, { scaling: { tensorParallel: 2 } }],
  };
  for (const [name, [workers, more]] of Object.entries(layouts)) {
    const { deepspeed } = more;
    const alone = deepspeed ? await trainer(`${name}-1`, 1, heldOut({ run: EVERY, deepspeed })).fit() : one;
    const shared = await trainer(name, workers, heldOut({ ...more, run: EVERY })).fit();
    close(lossesOf(shared.heldOutLosses), lossesOf(alone.heldOutLosses));
  }
  const quiet = await trainer('quiet', 1, heldOut({})).fit();
  assert.deepEqual(quiet.losses, one.losses);
  assert.deepEqual([quiet.heldOutLosses, quiet.best], [[], null]);
  assert.equal(quiet.evaluation!.loss, one.evaluation!.loss);
});

test('with patience a run ends when nothing gets better, and leaves the best model; resumed, it stays so', async () => {
  const evaluation = { everySteps: 4, keepBest: true, patience: 2 };
  const run = { evaluation, checkpoint: { everySteps: 10 } };
  const told: EvaluatedEvent[] = [];
  const note = (event: TrainingEvent) => event.kind === 'evaluated' && told.push(event);
  const result = await trainer('best', 2, { ...FORGETFUL, run }).fit({ onProgress: note });
  const { best } = result;
  const losses = lossesOf(result.heldOutLosses);
  assert.equal(best!.loss, Math.min(...losses));
  assert.equal(result.metrics.steps, best!.step + 2 * evaluation.everySteps);
  assert.ok(result.metrics.steps < 60);
  assert.deepEqual(
    told.map(({ step, loss, isBest }) => [step, loss, isBest]),
    result.heldOutLosses.map(({ step, loss }, at) => [step, loss, losses.slice(0, at).every((other) => loss < other)]),
  );
  assert.ok(Math.abs(result.evaluation!.loss! - best!.loss) < 1e-4, 'the folder is of the best');
  const kept = readdirSync(pathOf('best')).filter((name) => name.startsWith('best-'));
  assert.deepEqual(kept, [`best-${String(best!.step).padStart(6, '0')}`]);

  const short = await trainer('short', 1, {
    ...FORGETFUL,
    recipe: { ...FORGETFUL.recipe, maxSteps: best!.step },
  }).fit();
  await sameModel(result.model, short.model, 1e-3);
  const again = await trainer('best', 2, { ...FORGETFUL, run: { ...run, resume: true } }).fit();
  assert.deepEqual([again.heldOutLosses, again.metrics.steps], [result.heldOutLosses, result.metrics.steps]);
  await sameModel(again.model, result.model, 0);
});

test('a run stopped between two checkpoints measures again what it had measured, and keeps the best through it', async () => {
  const run = { evaluation: { everySteps: 2, keepBest: true }, checkpoint: { everySteps: 3 } };
  const whole = await trainer('whole', 2, heldOut({ run })).fit();
  const stop = new AbortController();
  const first = trainer('stopped', 2, heldOut({ run })).fit({
    signal: stop.signal,
    onProgress: (event) => event.kind === 'evaluated' && event.step === 4 && stop.abort(new Error('enough')),
  });
  await assert.rejects(first, /enough/);
  const resumed: TrainingResult = await trainer('stopped', 2, heldOut({ run: { ...run, resume: true } })).fit();
  assert.deepEqual(resumed.heldOutLosses, whole.heldOutLosses);
  assert.deepEqual(resumed.best, whole.best);
  await sameModel(resumed.model, whole.model, 0);
});

test('an adapter is kept with its model', async () => {
  const { model } = await trainer('base', 1, {}).fit();
  const recipe = { model, lora: { r: 4, lora_alpha: 8 }, heldOut: 0.1, learningRate: 0.01 };
  const result = await trainer('adapter', 1, { recipe, run: { evaluation: { everySteps: 4, keepBest: true } } }).fit();
  const step = String(result.best!.step).padStart(6, '0');
  for (const name of ['model', 'adapter']) {
    assert.ok(existsSync(pathOf('adapter', `best-${step}`, name)));
    assert.ok(existsSync(join(pathOf('adapter'), name)));
  }
});

test('a run that holds nothing out has nothing to measure', async () => {
  await assert.rejects(
    trainer('nothing', 1, { run: EVERY }).fit(),
    /trainer\.run\.evaluation: expected a recipe that holds records out: evaluationData or heldOut/,
  );
});
