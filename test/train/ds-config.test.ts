// ds_config: batch arithmetic, "auto", what is refused and how misspelt keys are told; schedules against recorded rates.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { PARAMETERS_ON_HOST } from '#src/engine/index.js';
import { zeroInnerOf } from '#src/train/ds-zero.js';
import {
  type DsConfigInput,
  learningRate,
  nearest,
  readDsConfig,
  resolveDsConfig,
  type Schedule,
} from '#src/train/index.js';

const AUTO = {
  worldSize: 4,
  totalSteps: 100,
  learningRate: 3e-4,
  weightDecay: 0.1,
  maxGradientNorm: 0.5,
  microBatch: 2,
};
const resolved = async (config: DsConfigInput, auto = AUTO) => resolveDsConfig(await readDsConfig(config), auto);

test('the schedules of Transformers can be named too', async () => {
  const { schedule } = await resolved({ scheduler: { type: 'linear', params: { warmup_num_steps: 10 } } });
  assert.deepEqual(schedule, { kind: 'linear', rate: 3e-4, warmupSteps: 10, totalSteps: 100 });
  const constant = await resolved({ scheduler: { type: 'constant_with_warmup', params: {} } });
  assert.deepEqual(constant.schedule, { kind: 'constant_with_warmup', rate: 3e-4, warmupSteps: 3 });
});

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

test('Adam decays apart from the gradient unless adam_w_mode is off', async () => {
  const decoupled = async (type: 'Adam' | 'AdamW', adam_w_mode?: boolean) => {
    const params = adam_w_mode === undefined ? {} : { adam_w_mode };
    const { optimizer } = await resolved({ optimizer: { type, params } });
    return optimizer.kind === 'adamw' && optimizer.isDecayDecoupled;
  };
  assert.deepEqual(
    [await decoupled('AdamW'), await decoupled('Adam'), await decoupled('Adam', false)],
    [true, true, false],
  );
});

test('the other optimizers have the names, parameters and defaults of DeepSpeed and torch', async () => {
  const common = { weightDecay: 0.1, maxGradientNorm: 0.5 };
  const of = async (optimizer: NonNullable<DsConfigInput['optimizer']>) => (await resolved({ optimizer })).optimizer;
  assert.deepEqual(await of({ type: 'Lion' }), { kind: 'lion', ...common, beta1: 0.9, beta2: 0.99 });
  assert.deepEqual(await of({ type: 'Adagrad', params: { initial_accumulator_value: 0.1 } }), {
    kind: 'adagrad',
    ...common,
    eps: 1e-10,
    lrDecay: 0,
    initialSum: 0.1,
  });
  assert.deepEqual(await of({ type: 'SGD', params: { momentum: 0.9, nesterov: true, weight_decay: 0 } }), {
    kind: 'sgd',
    ...common,
    weightDecay: 0,
    momentum: 0.9,
    dampening: 0,
    isNesterov: true,
  });
  const muon = { kind: 'muon', ...common, momentum: 0.95, isNesterov: true, iterations: 5 };
  const adam = { beta1: 0.9, beta2: 0.95, eps: 1e-10 };
  assert.deepEqual(await of({ type: 'muon' as 'Muon' }), { ...muon, adam: { ...adam, rateRatio: 3e-4 / 0.02 } });
  const rates = { type: 'Muon', params: { lr: 0.01, adam_lr: 0.002 } } as const;
  assert.deepEqual(await of(rates), { ...muon, adam: { ...adam, rateRatio: 0.2 } });
  assert.deepEqual((await resolved({ optimizer: rates })).schedule, { kind: 'constant', rate: 0.01 });
  const scheduler = { type: 'WarmupLR', params: { warmup_max_lr: 0.1 } } as const;
  const both = (await resolved({ optimizer: rates, scheduler })).optimizer;
  assert.ok(both.kind === 'muon' && both.adam.rateRatio === 1);
  const contradiction = { type: 'SGD', params: { nesterov: true } } as const;
  await assert.rejects(of(contradiction), /params\.nesterov: expected a momentum above 0 and no dampening/);
  await assert.rejects(of({ type: 'Lion', params: { eps: 1 } as object }), /eps/);
});

test('keys of ZeRO have DeepSpeed\'s meaning and defaults; "auto" is what Transformers makes of the width of the model', async () => {
  const zero = async (keys: object, auto = AUTO) => resolved({ zero_optimization: keys }, auto);
  const defaults = {
    reduceBucketSize: 5e8,
    overlapComm: true,
    prefetchBucketSize: 5e7,
    maxLiveParameters: 1e9,
    maxReuseDistance: 1e9,
    paramPersistenceThreshold: 1e5,
    modelPersistenceThreshold: Number.POSITIVE_INFINITY,
    offloadParam: null,
    quantizedWeights: false,
    quantizedNontrainableWeights: false,
    quantizedGradients: false,
  };
  const { zeroStage, zeroTuning, notes } = await zero({ stage: 3 });
  assert.deepEqual([zeroStage, zeroTuning, notes], [3, defaults, []]);
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
    ...defaults,
    ...tuned,
    reduceBucketSize: 64 * 64,
    prefetchBucketSize: Math.floor(0.9 * 64 * 64),
    paramPersistenceThreshold: 640,
    quantizedWeights: false,
    quantizedNontrainableWeights: false,
    quantizedGradients: false,
  });
  assert.deepEqual((await zero(given)).zeroTuning, { ...defaults, ...tuned });
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

const offloaded = async (block: object, stage = 2, more: object = {}) =>
  (await resolved({ zero_optimization: { stage, offload_optimizer: block }, ...more } as DsConfigInput)).offload;

test('an offloaded optimizer has the keys of DeepSpeed', async () => {
  assert.deepEqual(await offloaded({ device: 'none' }), {});
  assert.deepEqual(await offloaded({ device: 'cpu', pin_memory: true, ratio: 0.4 }), {
    optimizer: { device: 'cpu', ratio: 0.4 },
  });
  const { optimizer } = await offloaded(
    { device: 'nvme', nvme_path: '/fast', buffer_count: 6, buffer_size: 1000, pipeline_write: false },
    3,
    { aio: { block_size: 262144, queue_depth: 32, thread_count: 2, single_submit: true, overlap_events: false } },
  );
  assert.deepEqual(optimizer, {
    device: 'nvme',
    ratio: 1,
    tileElements: 1000,
    slots: 2,
    poolElements: 6000,
    file: {
      folder: '/fast/raylite-offload',
      blockBytes: 262144,
      queueDepth: 32,
      threads: 2,
      singleSubmit: true,
      overlapEvents: false,
    },
  });
  const grouped = await resolved({
    zero_optimization: { stage: 2, sub_group_size: 5000, offload_optimizer: { device: 'cpu' } },
  });
  assert.equal(grouped.offload.optimizer?.tileElements, 5000);
  assert.deepEqual(grouped.notes, []);
});

test('keys of offload that contradict each other are refused with what to do', async () => {
  await assert.rejects(offloaded({ device: 'cpu' }, 0), /stage: expected 1, 2 or 3 with offload_optimizer, got 0/);
  await assert.rejects(offloaded({ device: 'nvme' }), /nvme_path: expected a folder on a local disk.*device to "cpu"/);
  await assert.rejects(
    offloaded({ device: 'cpu', nvme_path: '/fast' }),
    /nvme_path: expected a path together with device "nvme", got "\/fast"/,
  );
  await assert.rejects(offloaded({ device: 'cpu', ratio: 0 }), /ratio/);
  await assert.rejects(
    offloaded({ device: 'nvme', nvme_path: '/fast' }, 2, { aio: { block_size: 1000 } }),
    /aio\.block_size/,
  );
  await assert.rejects(
    resolved({ zero_optimization: { stage: 3, offload_param: { device: 'nvme' } } }),
    /offload_param\.nvme_path: expected a folder on a local disk.*device to "cpu"/,
  );
  await assert.rejects(
    resolved({ zero_optimization: { stage: 2, offload_param: { device: 'cpu' } } }),
    /stage: expected 3 with offload_param, got 2/,
  );
  const { zeroTuning } = await resolved({ zero_optimization: { stage: 3, offload_param: { device: 'cpu' } } });
  assert.deepEqual(zeroTuning.offloadParam, PARAMETERS_ON_HOST);
  const onDisk = async (block: object) =>
    (
      await resolved({
        zero_optimization: { stage: 3, offload_param: { device: 'nvme', nvme_path: '/fast', ...block } },
      })
    ).zeroTuning.offloadParam!;
  const { file, ...byDefault } = await onDisk({ pin_memory: true });
  assert.deepEqual(byDefault, { hostElementsMax: 1e9, buffers: 5, bufferElements: 1e8 });
  assert.equal(file?.folder, '/fast/raylite-offload');
  const given = await onDisk({ max_in_cpu: 0, buffer_count: 2, buffer_size: 5000 });
  assert.deepEqual({ ...given, file }, { hostElementsMax: 0, buffers: 2, bufferElements: 5000, file });
  await assert.rejects(onDisk({ ratio: 0.5 }), /ratio/);
});

test('fp16 and bf16 say how numbers are stored, with the loss scale of DeepSpeed', async () => {
  const precision = async (config: DsConfigInput, chosen = {}) =>
    (await resolved(config, { ...AUTO, ...chosen })).precision;
  const plain = { dtype: 'f32', lossScaling: null, hasMasters: false, stateDtype: 'f32' };
  const mastered = { hasMasters: true, stateDtype: 'f32' };
  const dynamic = {
    kind: 'dynamic',
    initialScalePower: 16,
    windowSteps: 1000,
    hysteresis: 2,
    minScale: 1,
    isHysteresisConsecutive: false,
  };
  assert.deepEqual(await precision({}), plain);
  assert.deepEqual(await precision({ fp16: {}, bf16: { enabled: false } }), plain);
  assert.deepEqual(await precision({ bf16: { enabled: true } }), { ...mastered, dtype: 'bf16', lossScaling: null });
  assert.deepEqual(await precision({ fp16: { enabled: true } }), { ...mastered, dtype: 'f16', lossScaling: dynamic });
  const tuned = { initial_scale_power: 32, loss_scale_window: 5, hysteresis: 1, min_loss_scale: 0.5 };
  assert.deepEqual(await precision({ fp16: { enabled: true, consecutive_hysteresis: true, ...tuned } }), {
    ...mastered,
    dtype: 'f16',
    lossScaling: {
      kind: 'dynamic',
      initialScalePower: 32,
      windowSteps: 5,
      hysteresis: 1,
      minScale: 0.5,
      isHysteresisConsecutive: true,
    },
  });
  const bare = { enabled: true, bf16_master_weights_and_grads: true };
  assert.equal((await precision({ bf16: bare })).hasMasters, false);
  const { hasMasters, stateDtype } = await precision({ bf16: { ...bare, bf16_optimizer_states: true } });
  assert.deepEqual([hasMasters, stateDtype], [false, 'bf16']);
  const fixed = await precision({ fp16: { enabled: true, loss_scale: 128 } });
  assert.deepEqual(fixed.lossScaling, { kind: 'static', scale: 128 });
  // "auto" and a block that is not there are what the recipe says.
  assert.equal(
    (await precision({ bf16: { enabled: 'auto' }, fp16: { enabled: 'auto' } }, { bf16: true })).dtype,
    'bf16',
  );
  assert.equal((await precision({ fp16: { enabled: 'auto' } })).dtype, 'f32');
  assert.deepEqual(await precision({}, { fp16: true }), { ...mastered, dtype: 'f16', lossScaling: dynamic });
});

test('contradictions about the precision are refused', async () => {
  await assert.rejects(
    resolved({ fp16: { enabled: true }, bf16: { enabled: true } }),
    /deepspeed\.fp16\.enabled: expected false beside bf16, got true/,
  );
  await assert.rejects(
    resolved({ bf16: { enabled: false } }, { ...AUTO, bf16: true } as typeof AUTO),
    /deepspeed\.bf16\.enabled: expected "auto" or true, as the recipe's bf16, got false/,
  );
  await assert.rejects(resolved({}, { ...AUTO, bf16: true, fp16: true } as typeof AUTO), /Choose one of the two/);
  await assert.rejects(resolved({ fp16: { loss_scale: -1 } }), /fp16\.loss_scale/);
  await assert.rejects(
    resolved({ bf16: { enabled: false, bf16_optimizer_states: true } }),
    /deepspeed\.bf16\.bf16_optimizer_states: expected false unless bf16 is enabled, got true/,
  );
  await assert.rejects(resolved({ bf16: { check_grad_overflow: false } } as never), /bf16\.check_grad_overflow/);
  await assert.rejects(readDsConfig({ fp16: { lossscale: 1 } } as never), /Did you mean "loss_scale"/);
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

interface GoldenSchedule {
  readonly name: string;
  readonly kind: string;
  readonly library: string;
  readonly schedule: 'WarmupLR' | 'WarmupDecayLR' | 'WarmupCosineLR';
  readonly warmup_type: 'log' | 'linear';
  readonly lr: number;
  readonly warmup: number;
  readonly total: number;
  readonly warmup_min_lr: number;
  readonly cos_min_ratio: number;
  readonly warmup_min_ratio: number;
  readonly rates: readonly number[];
}

const golden = resolve('../shared/golden/optim/cases.json');
test('schedules give the recorded rates of DeepSpeed', {
  skip: existsSync(golden) ? false : `${golden} is not on this machine`,
}, async () => {
  const { cases } = JSON.parse(await readFile(golden, 'utf8')) as { readonly cases: readonly GoldenSchedule[] };
  const schedules = cases.filter(({ kind, library }) => kind === 'schedule' && library === 'DeepSpeed');
  assert.ok(schedules.length >= 6);
  for (const item of schedules) {
    const schedule: Schedule = {
      kind: item.schedule,
      rate: item.lr,
      warmupSteps: item.warmup,
      warmupType: item.warmup_type,
      minRate: item.warmup_min_lr,
      totalSteps: item.total,
      minRatio: item.cos_min_ratio,
      warmupMinRatio: item.warmup_min_ratio,
    };
    item.rates.forEach((rate, step) => {
      assert.ok(Math.abs(learningRate(schedule, step) - rate) <= 1e-12, `${item.name}, step ${step}`);
    });
  }
});

test('activation checkpointing: what concerns storage is taken, cutting activations between ranks is refused', async () => {
  const config = { activation_checkpointing: { cpu_checkpointing: true, number_checkpoints: 4, profile: false } };
  assert.equal((await resolved(config)).isRecomputed, false);
  assert.equal((await resolved({ checkpoint_activations: true })).isRecomputed, true);
  await assert.rejects(
    resolved({ activation_checkpointing: { partition_activations: true } }),
    /activation_checkpointing.partition_activations: expected false, got true. Workers that share matrices keep the tensors between blocks whole/,
  );
});
