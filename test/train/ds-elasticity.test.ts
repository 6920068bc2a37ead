// The block `elasticity` of a ds_config against what DeepSpeed itself says, and what it refuses.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConfigError } from '#src/common/index.js';
import { elasticBatch, elasticShare, enabledElasticity } from '#src/train/ds-elasticity.js';
import { type DsConfigInput, readDsConfig, resolveDsConfig } from '#src/train/index.js';
import { resolveMeshes } from '#src/train/worker-counts.js';

type Block = Omit<NonNullable<DsConfigInput['elasticity']>, 'enabled'>;

const AUTO = { totalSteps: 9, learningRate: 1e-3, weightDecay: 0, maxGradientNorm: 1, microBatch: 2 };
const elasticityOf = async (block: Block) =>
  enabledElasticity((await readDsConfig({ elasticity: { enabled: true, ...block } })).elasticity)!;

// Of compute_elastic_config(…, world_size) of DeepSpeed, commit edaa722 (deepspeed/elasticity/elasticity.py).
const CASES: readonly (readonly [
  block: Block,
  batch: number,
  valid: readonly number[],
  micros: Readonly<Record<number, number>>,
])[] = [
  [
    { max_train_batch_size: 2000, micro_batch_sizes: [2, 4, 6], max_gpus: 100, version: 0.1 },
    1680,
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 20, 21, 24, 28, 30, 35, 40, 42, 56, 60, 70, 84],
    { 1: 6, 84: 4 },
  ],
  [
    { max_train_batch_size: 10_000, micro_batch_sizes: [8, 12, 16, 17], min_gpus: 32, max_gpus: 1500, version: 0.1 },
    9792,
    [32, 34, 36, 48, 51, 64, 68, 72, 96, 102, 136, 144, 153, 192, 204, 272, 288, 306, 408, 576, 612, 816, 1224],
    { 64: 17, 1224: 8 },
  ],
  [
    { max_train_batch_size: 64, micro_batch_sizes: [7, 3], max_gpus: 12, version: 0.1 },
    36,
    [1, 2, 3, 4, 6, 12],
    { 2: 3 },
  ],
  // The least common multiple of the micro-batches is larger than the batch may be.
  [{ max_train_batch_size: 10, micro_batch_sizes: [4, 6], version: 0.1 }, 8, [1, 2], { 1: 4, 2: 4 }],
  [{ max_train_batch_size: 6, micro_batch_sizes: [1, 2], version: 0.1 }, 6, [1, 2, 3, 6], { 1: 2, 2: 1, 3: 2 }],
  [
    { max_train_batch_size: 100, micro_batch_sizes: [4], min_gpus: 4, max_gpus: 24, num_gpus_per_node: 4 },
    96,
    [4, 8, 12, 24],
    { 4: 4, 24: 4 },
  ],
  [
    { max_train_batch_size: 2000, micro_batch_sizes: [2, 4, 6], max_gpus: 64, version: 0.2, num_gpus_per_node: 8 },
    1920,
    [8, 16, 24, 32, 40, 48, 64],
    { 8: 6, 64: 6 },
  ],
];

test('the batch, the numbers of workers that share it and their micro-batches are those of DeepSpeed', async () => {
  for (const [block, trainBatch, worldSizes, micros] of CASES) {
    const elasticity = await elasticityOf(block);
    assert.deepEqual(elasticBatch(elasticity), { trainBatch, worldSizes });
    for (const [size, microBatch] of Object.entries(micros)) {
      const accumulation = trainBatch / Number(size) / microBatch;
      assert.deepEqual(elasticShare(elasticity, Number(size)), { trainBatch, microBatch, accumulation });
    }
  }
});

test('version 0.1 refuses other numbers of workers with the nearest; version 0.2 gives each of them a batch of its own', async () => {
  const block = { max_train_batch_size: 64, micro_batch_sizes: [2, 3], max_gpus: 8 };
  const old = await elasticityOf({ ...block, version: 0.1 });
  assert.throws(
    () => elasticShare(old, 7),
    /^ConfigError: trainer.scaling.workers: expected a number of data parallel workers that elasticity allows for its batch of \d+ rows, got 7. Take 6 or 8$/,
  );
  const larger = await elasticityOf(block);
  assert.deepEqual(elasticShare(larger, 7), { trainBatch: 63, microBatch: 3, accumulation: 3 });
  const smaller = await elasticityOf({ ...block, prefer_larger_batch: false });
  assert.deepEqual(elasticShare(smaller, 7), { trainBatch: 56, microBatch: 2, accumulation: 4 });
});

describe('with a range of workers', () => {
  const pipeline = { stages: 1, chunks: 1 } as Parameters<typeof resolveMeshes>[2];
  const counts = async (
    elasticity: Block,
    scaling: Omit<Parameters<typeof resolveMeshes>[0], 'workers'> = {},
    workers = { min: 1, max: 8 },
  ) => {
    const config = await readDsConfig({ elasticity: { enabled: true, ...elasticity } });
    return [...resolveMeshes({ workers, ...scaling }, config, pipeline, AUTO).keys()];
  };

  test('numbers that do not share its batch are passed over, and all refused where none does', async () => {
    const block = { max_train_batch_size: 6, micro_batch_sizes: [1, 2] };
    assert.deepEqual(await counts(block), [6, 3, 2, 1]);
    assert.deepEqual(await counts({ ...block, max_gpus: 3 }), [3, 2, 1]);
    await assert.rejects(counts(block, {}, { min: 4, max: 5 }), /for its batch of 6 rows, got 5. Take 3 or 6/);
  });

  test('workers that share a model count once, and are as many as the block says', async () => {
    const block = { max_train_batch_size: 6, micro_batch_sizes: [1, 2], num_gpus_per_node: 2, model_parallel_size: 2 };
    assert.deepEqual(await counts(block, { tensorParallel: 2 }), [6, 4, 2]);
    await assert.rejects(
      counts(block, { tensorParallel: 1 }),
      /model_parallel_size: expected tensorParallel × .* = 1, got 2/,
    );
  });
});

test('sizes beside it are refused, or have no effect where the block says so', async () => {
  const elasticity = { enabled: true, max_train_batch_size: 6, micro_batch_sizes: [1, 2] };
  const resolved = async (config: DsConfigInput) =>
    resolveDsConfig(await readDsConfig(config), { ...AUTO, worldSize: 2 });
  for (const key of ['train_batch_size', 'train_micro_batch_size_per_gpu', 'gradient_accumulation_steps'] as const) {
    await assert.rejects(
      resolved({ elasticity, [key]: 4 }),
      new RegExp(`deepspeed\\.${key}: expected nothing beside elasticity, which chooses the batch, got 4`),
    );
    const { batch, notes } = await resolved({
      elasticity: { ...elasticity, ignore_non_elastic_batch_info: true },
      [key]: 4,
    });
    assert.deepEqual(batch, { trainBatch: 6, microBatch: 1, accumulation: 3 });
    assert.deepEqual(notes, [`${key} has no effect: elasticity chooses the batch`]);
  }
  const { batch } = await resolved({ elasticity: { ...elasticity, enabled: false }, train_batch_size: 4 });
  assert.equal(batch.trainBatch, 4);
});

test('what it lacks or contradicts is refused by name', async () => {
  const block = { max_train_batch_size: 6, micro_batch_sizes: [1, 2] };
  const refused = async (more: Block, message: RegExp) =>
    assert.rejects(
      async () => elasticBatch(await elasticityOf(more)),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  await refused({ micro_batch_sizes: [1] }, /elasticity\.max_train_batch_size: expected a number of rows, got nothing/);
  await refused({ max_train_batch_size: 6 }, /elasticity\.micro_batch_sizes: expected a list .*, got nothing/);
  await refused({ ...block, micro_batch_sizes: [1, 7] }, /micro_batch_sizes: expected numbers up to 6 .*, got 7/);
  await refused({ ...block, min_gpus: 5, max_gpus: 4 }, /max_gpus: expected at least min_gpus, 5, got 4/);
  await refused({ ...block, min_gpus: 7 }, /max_train_batch_size: expected a batch that some number of workers/);
  await refused(
    { ...block, version: 0.1, model_parallel_size: 2 },
    /model_parallel_size: expected 1 in version 0\.1, got 2/,
  );
  await refused(
    { ...block, num_gpus_per_node: 3, model_parallel_size: 2 },
    /num_gpus_per_node: expected a multiple of .*, 2, got 3/,
  );
  await refused({ ...block, version: 0.3 as never }, /elasticity\.version: expected .*0\.1.*0\.2.*, got 0\.3/);
  await refused(
    { ...block, micro_batches: [1] } as never,
    /elasticity\.micro_batches: .*Did you mean "micro_batch_sizes"/,
  );
  const alone = await elasticityOf({ ...block, max_train_batch_size: 2 });
  assert.throws(() => elasticShare(alone, 5), /max_train_batch_size: expected at least a micro-batch of each of the 5/);
});
