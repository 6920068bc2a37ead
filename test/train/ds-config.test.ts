// ds_config: batch arithmetic, "auto", files, and how misspelt keys are told.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DsConfigInput, nearest, readDsConfig, resolveDsConfig } from '#src/train/index.js';
import { AUTO, resolved } from './ds-config-for-tests.js';

test('of the three batch sizes those given decide the others, as in DeepSpeed', async () => {
  const sizes = async (train?: number, micro?: number, accumulation?: number) => {
    const { batch } = await resolved({
      ...(train ? { train_batch_size: train } : {}),
      ...(micro ? { train_micro_batch_size_per_gpu: micro } : {}),
      ...(accumulation ? { gradient_accumulation_steps: accumulation } : {}),
    });
    return [batch.trainBatch, batch.microBatch, batch.accumulation];
  };
  assert.deepEqual(await sizes(32, 4, 2), [32, 4, 2]);
  assert.deepEqual(await sizes(32, 4), [32, 4, 2]);
  assert.deepEqual(await sizes(32, undefined, 4), [32, 2, 4]);
  assert.deepEqual(await sizes(undefined, 4, 2), [32, 4, 2]);
  assert.deepEqual(await sizes(32), [32, 8, 1]);
  assert.deepEqual(await sizes(undefined, 4), [16, 4, 1]);
  assert.deepEqual(await sizes(), [8, 2, 1]); // the recipe's micro batch
  await assert.rejects(sizes(30, 4, 2), /train_batch_size: expected .* 4 × 2 × 4 = 32, got 30/);
  await assert.rejects(sizes(3), /train_batch_size: expected at least the number of workers, 4, got 3/);
  await assert.rejects(sizes(30), /7 × 1 × 4 = 28, got 30/);
});

test('whatever sizes come out, their product is the train batch', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 8 }),
      async (train, micro, worldSize) => {
        const config = await readDsConfig({ train_batch_size: train, train_micro_batch_size_per_gpu: micro });
        try {
          const { batch } = resolveDsConfig(config, { ...AUTO, worldSize });
          assert.equal(batch.microBatch * batch.accumulation * worldSize, batch.trainBatch);
        } catch (error) {
          assert.notEqual(train % (micro * worldSize), 0, String(error));
        }
      },
    ),
  );
});

test('"auto" is what the recipe says, for whatever may be auto', async () => {
  const { optimizer, schedule } = await resolved({
    optimizer: { type: 'AdamW', params: { lr: 'auto', betas: 'auto', eps: 'auto', weight_decay: 'auto' } },
    gradient_clipping: 'auto',
    scheduler: {
      type: 'WarmupDecayLR',
      params: { total_num_steps: 'auto', warmup_max_lr: 'auto', warmup_num_steps: 'auto' },
    },
    fp16: { enabled: 'auto' },
    bf16: { enabled: 'auto' },
  });
  const expected = { kind: 'adamw', beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1, maxGradientNorm: 0.5 };
  assert.deepEqual(optimizer, { ...expected, isDecayDecoupled: true, hasBiasCorrection: true });
  assert.deepEqual(schedule, {
    kind: 'WarmupDecayLR',
    rate: 3e-4,
    minRate: 0,
    warmupSteps: 3,
    warmupType: 'log',
    totalSteps: 100,
  });
});

test('an unknown key is told its nearest neighbour, also inside', async () => {
  const unknown = (config: object) =>
    assert.rejects(readDsConfig(config as DsConfigInput), (error: Error) => {
      unknownMessage = error.message;
      return true;
    });
  let unknownMessage = '';
  await unknown({ train_batchsize: 8 });
  assert.match(unknownMessage, /deepspeed\.train_batchsize: .*Did you mean "train_batch_size"\?/);
  await unknown({ optimizer: { type: 'AdamW', params: { weigth_decay: 0 } } });
  assert.match(unknownMessage, /deepspeed\.optimizer\.params\.weigth_decay: .*"weight_decay"/);
  await unknown({ zero_optimization: { stge: 1 } });
  assert.match(unknownMessage, /zero_optimization\.stge: .*"stage"/);
  await unknown({ optimizer: { type: 'Adamax' } });
  assert.match(unknownMessage, /optimizer\.type: expected one of "AdamW", "Adam", "Lion", .*"Muon", got "Adamax"/);
  assert.equal(nearest('zzzzzzzz', ['stage']), null);
});

test('a file is read, and a missing or broken one says so', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'raylite-ds-'));
  try {
    await writeFile(join(dir, 'ds.json'), '{"zero_optimization": true, "steps_per_print": 5}');
    assert.equal((await resolved(join(dir, 'ds.json') as never)).zeroStage, 1);
    await writeFile(join(dir, 'bad.json'), '{');
    await assert.rejects(readDsConfig(join(dir, 'bad.json')), /bad\.json: is not JSON/);
    await assert.rejects(readDsConfig(join(dir, 'none.json')), /deepspeed: expected .*none\.json/);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('activation checkpointing: what concerns storage is taken', async () => {
  const config = { activation_checkpointing: { cpu_checkpointing: true, partition_activations: true, profile: false } };
  assert.equal((await resolved(config)).isRecomputed, false);
  assert.equal((await resolved({ checkpoint_activations: true })).isRecomputed, true);
});
