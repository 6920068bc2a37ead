// ds_config: the keys of ZeRO and ZeRO++, what they mean, and which of them change nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ZERO_TUNING } from '#src/engine/index.js';
import { zeroInnerOf } from '#src/train/ds-zero.js';
import { readDsConfig } from '#src/train/index.js';
import { AUTO, resolved } from './ds-config-for-tests.js';

/** https://www.deepspeed.ai/docs/config-json/#zero-optimizations-for-fp16-training, and `runtime/zero/config.py` for what it leaves out. */
const DEFAULTS_OF_DEEPSPEED = {
  reduce_bucket_size: 5e8,
  overlap_comm: true, // of stage 3; elsewhere DeepSpeed's is false
  stage3_prefetch_bucket_size: 5e7,
  stage3_max_live_parameters: 1e9,
  stage3_max_reuse_distance: 1e9,
  stage3_param_persistence_threshold: 1e5,
  offload_param: { device: 'none' },
  zero_quantized_weights: false,
  zero_quantized_nontrainable_weights: false,
  zero_quantized_gradients: false,
} as const;

test("a key of ZeRO that is not given is as DeepSpeed's default", async () => {
  const zero = async (keys: object) => resolved({ zero_optimization: { stage: 3, ...keys } });
  const byDefault = await zero({});
  assert.deepEqual(byDefault, await zero(DEFAULTS_OF_DEEPSPEED));
  assert.deepEqual([byDefault.zeroStage, byDefault.zeroTuning, byDefault.notes], [3, ZERO_TUNING, []]);
  assert.equal(ZERO_TUNING.modelPersistenceThreshold, Number.POSITIVE_INFINITY); // sys.maxsize there
});

test('keys of ZeRO have DeepSpeed\'s meaning; "auto" is what Transformers makes of the width of the model', async () => {
  const zero = async (keys: object, auto = AUTO) => resolved({ zero_optimization: keys }, auto);
  const given = {
    stage: 3,
    overlap_comm: false,
    reduce_bucket_size: 'auto',
    stage3_prefetch_bucket_size: 'auto',
    stage3_param_persistence_threshold: 'auto',
    stage3_model_persistence_threshold: 700,
    stage3_max_live_parameters: 3000,
    stage3_max_reuse_distance: 0,
  };
  const tuned = { overlapComm: false, maxLiveParameters: 3000, maxReuseDistance: 0, modelPersistenceThreshold: 700 };
  const wide = { ...AUTO, hiddenSize: 64 };
  assert.deepEqual((await zero(given, wide)).zeroTuning, {
    ...ZERO_TUNING,
    ...tuned,
    reduceBucketSize: 64 * 64,
    prefetchBucketSize: Math.floor(0.9 * 64 * 64),
    paramPersistenceThreshold: 640,
  });
  assert.deepEqual((await zero(given)).zeroTuning, { ...ZERO_TUNING, ...tuned });
  await assert.rejects(zero({ stage: 3, stage3_max_live_parameters: -1 }), /stage3_max_live_parameters: expected/);
});

test('keys of ZeRO++ are understood at the stages that they change, and refused by name below', async () => {
  const zero = async (keys: object) => (await resolved({ zero_optimization: keys })).zeroTuning;
  const plus = { zero_quantized_weights: true, zero_quantized_gradients: true, zero_hpz_partition_size: 2 };
  const { quantizedWeights, quantizedGradients } = await zero({ stage: 3, ...plus });
  assert.deepEqual([quantizedWeights, quantizedGradients], [true, true]);
  assert.ok((await zero({ stage: 2, zero_quantized_gradients: true })).quantizedGradients);
  const refused = (keys: object, pattern: RegExp) => assert.rejects(zero(keys), pattern);
  await refused({ stage: 2, zero_quantized_weights: true }, /zero_quantized_weights: expected stage 3 beside it, got/);
  await refused(
    { stage: 1, zero_quantized_gradients: true },
    /zero_quantized_gradients: expected stage 2 or 3 beside it/,
  );
  await refused({ stage: 2, zero_hpz_partition_size: 2 }, /zero_hpz_partition_size: expected stage 3/);
  await refused({ stage: 3, mics_shard_size: 4 }, /mics_shard_size: expected -1, got 4. MiCS is not supported/);
  const config = await readDsConfig({ zero_optimization: { stage: 3, zero_hpz_partition_size: 3 } });
  assert.equal(zeroInnerOf(config, 6), 3);
  assert.throws(() => zeroInnerOf(config, 4), /zero_hpz_partition_size: expected a divisor of the 4 workers .* got 3/);
});

test('a key that changes nothing here is named with the reason', async () => {
  const notes = async (keys: object) => (await resolved({ zero_optimization: keys })).notes;
  const usual = { contiguous_gradients: true, reduce_scatter: true, stage3_gather_16bit_weights_on_model_save: true };
  assert.deepEqual(await notes({ stage: 3, ...usual }), []);
  assert.deepEqual(await notes({ stage: 3, contiguous_gradients: false, sub_group_size: 1e9 }), [
    'zero_optimization.contiguous_gradients has no effect: the gradients of a bucket always lie in one piece',
    'zero_optimization.sub_group_size has no effect: the optimizer steps a bucket at a time, in memory',
  ]);
  assert.deepEqual(await notes({ stage: 2, stage3_prefetch_bucket_size: 10 }), [
    'zero_optimization.stage3_prefetch_bucket_size has no effect at stage 2',
  ]);
});

test('what cannot be done is refused with the path and the reason', async () => {
  await assert.rejects(
    resolved({ zero_optimization: { stage: 4 } }),
    /zero_optimization\.stage: expected a value of at most 3, got 4/,
  );
});
