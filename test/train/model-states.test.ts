// The table of the ZeRO paper (arXiv:1910.02054, Table 1): GB of each device by model, devices and stage.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTraining, meshOf } from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { modelStateBytes } from '#src/train/index.js';
import { OPTIMIZER } from '../engine/models-for-tests.js';

/** Devices, then stages 1, 2 and 3 of 7.5B, 128B and 1T, as printed there. */
const TABLE = [
  [1, [120, 120, 120], [2048, 2048, 2048], [16000, 16000, 16000]],
  [4, [52.5, 41.3, 30], [896, 704, 512], [7000, 5500, 4000]],
  [16, [35.6, 21.6, 7.5], [608, 368, 128], [4750, 2875, 1000]],
  [64, [31.4, 16.6, 1.88], [536, 284, 32], [4187, 2218, 250]],
  [256, [30.4, 15.4, 0.47], [518, 263, 8], [4046, 2054, 62.5]],
  [1024, [30.1, 15.1, 0.12], [513, 257, 2], [4011, 2013, 15.6]],
] as const;

test('the formulas give the table of the paper to its last digit', () => {
  for (const [workers, ...models] of TABLE)
    for (const [index, parameters] of [7.5e9, 128e9, 1e12].entries())
      for (const stage of [1, 2, 3] as const) {
        const printed = models[index]![stage - 1]!;
        const gigabytes = modelStateBytes(parameters, workers, stage) / 1e9;
        const unit = 10 ** -(String(printed).split('.')[1]?.length ?? 0); // of the last digit; some are cut, not rounded
        assert.ok(Math.abs(gigabytes - printed) < unit, `${workers} × ${parameters} at stage ${stage}: ${gigabytes}`);
      }
  assert.equal(modelStateBytes(7.5e9, 64, 0), 120e9);
  assert.throws(() => modelStateBytes(7.5e9, 0, 3), /workers: expected a positive integer/);
});

test('a plan in bf16 is the formula with gradients in float32, but for padding', () => {
  const config = { model_type: 'gpt2', n_layer: 4, n_head: 4, n_embd: 256, n_positions: 64, vocab_size: 2048 };
  for (const workers of [1, 2, 4])
    for (const zeroStage of [0, 1, 2, 3] as const) {
      const tuning = { paramPersistenceThreshold: 0, maxReuseDistance: 0 };
      const strategy = { zeroStage, mesh: meshOf({ data: workers }), rank: 0, tuning };
      const settings = {
        model: modelFromConfig(config),
        rows: 16,
        strategy,
        optimizer: OPTIMIZER,
        dtype: 'bf16',
      } as const;
      const { memory, parameterCount } = compileTraining(settings);
      const gradients = 2 * parameterCount * (zeroStage >= 2 ? 1 / workers : 1); // the other two bytes
      const expected = modelStateBytes(parameterCount, workers, zeroStage) + gradients;
      const planned = memory.parameterBytes + memory.gradientBytes + memory.optimizerBytes;
      assert.ok(
        Math.abs(planned / expected - 1) < 0.01,
        `${workers} workers at stage ${zeroStage}: ${planned / expected}`,
      );
    }
});
