// Training in 16 bits against training in f32: the same curve up to rounding, whatever the model; a loss scale changes no number
// but those that would have been lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FloatType, Forward, layoutOf, ParameterStore, TrainStep } from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const VOCABULARY = 37;
const ROWS = 32;

/** Losses of some steps on one batch. */
async function curve(model: Model, dtype: FloatType, lossScale = 1): Promise<readonly number[]> {
  using opened = openDevice();
  const common = { model, rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype } as const;
  await using step = TrainStep.create({ ...common, device: opened.device });
  initialise(model, 5, step.parameters);
  const batch = randomBatch([16, 10], ROWS, VOCABULARY, 'curve');
  const losses: number[] = [];
  for (let n = 1; n <= 15; n++) {
    losses.push((await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true, lossScale })).loss);
    await step.update({ lr: 5e-3, step: n, lossScale });
  }
  return losses;
}

for (const [name, make] of [
  ['gpt2', tinyGpt2],
  ['llama', tinyLlama],
] as const) {
  test(`${name}: losses in bf16 and f16 follow those in f32`, async () => {
    const exact = await curve(make(), 'f32');
    assert.ok(exact.at(-1)! < exact[0]! - 0.5);
    for (const [dtype, lossScale, limit] of [
      ['bf16', 1, 0.04],
      ['f16', 1024, 0.01],
    ] as const) {
      const losses = await curve(make(), dtype, lossScale);
      for (const [step, loss] of losses.entries())
        assert.ok(Math.abs(loss - exact[step]!) < limit, `${dtype}, step ${step}: ${loss}, in f32 ${exact[step]}`);
    }
  });
}

test('equal jobs in 16 bits give equal bits', async () => {
  assert.deepEqual(await curve(tinyLlama(), 'bf16'), await curve(tinyLlama(), 'bf16'));
});

test('evaluation in 16 bits hands out f32 results close to those of f32', async () => {
  using opened = openDevice();
  const model = tinyLlama();
  const batch = randomBatch([16, 10], ROWS, VOCABULARY, 'forward');
  const results = [];
  for (const dtype of ['f32', 'bf16', 'f16'] as const) {
    using store = new ParameterStore(opened.device, layoutOf(model, dtype));
    initialise(model, 5, store);
    using forward = new Forward({ model, rows: ROWS, hasLogits: true, hasHiddenStates: true }, store);
    results.push(await forward.run(batch));
  }
  const [exact, ...narrower] = results;
  for (const result of narrower) {
    assert.ok(Math.abs(result.loss - exact!.loss) < 0.005 * exact!.loss);
    assert.ok(Math.max(...result.logits!.map((value, i) => Math.abs(value - exact!.logits![i]!))) < 0.05);
    assert.equal(result.hiddenStates.length, exact!.hiddenStates.length);
  }
});

test('a loss scale is refused where nothing is scaled', async () => {
  using opened = openDevice();
  const model = tinyGpt2();
  const common = { model, rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
  await using step = TrainStep.create({ ...common, device: opened.device });
  assert.throws(() => step.update({ lr: 1, step: 1, lossScale: 2 }), /lossScale: expected 1 for a job in bf16, got 2/);
});
