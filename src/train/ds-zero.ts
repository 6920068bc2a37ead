// The block `zero_optimization` of a ds_config: DeepSpeed's names and defaults → the stage, and how it trades memory for exchanges.
import { ConfigError } from '../common/index.js';
import { ZERO_TUNING, type ZeroStage, type ZeroTuning } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';
import { resolveParameterOffload } from './ds-offload.js';
import { given } from './ds-optimizer.js';

export interface ResolvedZero {
  readonly zeroStage: ZeroStage;
  readonly zeroTuning: ZeroTuning;
  /** Keys that are given and change nothing here, and why. */
  readonly notes: readonly string[];
}

type ZeroBlock = Exclude<DsConfig['zero_optimization'], boolean>;

/** `hiddenSize` is what Transformers makes of "auto" where the model is known: h², 0.9 h² and 10 h. */
export function resolveZero(config: DsConfig, hiddenSize: number | null): ResolvedZero {
  const zero = config.zero_optimization;
  if (typeof zero === 'boolean') return { zeroStage: zero ? 1 : 0, zeroTuning: ZERO_TUNING, notes: [] };
  refuseUnsupported(zero);
  const sized = (value: number | 'auto' | undefined, byDefault: number, times: number, power: number) =>
    value === 'auto' && hiddenSize !== null ? Math.floor(times * hiddenSize ** power) : given(value, byDefault);
  const zeroTuning: ZeroTuning = {
    reduceBucketSize: sized(zero.reduce_bucket_size, ZERO_TUNING.reduceBucketSize, 1, 2),
    overlapComm: given(zero.overlap_comm, ZERO_TUNING.overlapComm),
    prefetchBucketSize: sized(zero.stage3_prefetch_bucket_size, ZERO_TUNING.prefetchBucketSize, 0.9, 2),
    maxLiveParameters: given(zero.stage3_max_live_parameters, ZERO_TUNING.maxLiveParameters),
    maxReuseDistance: given(zero.stage3_max_reuse_distance, ZERO_TUNING.maxReuseDistance),
    paramPersistenceThreshold: sized(
      zero.stage3_param_persistence_threshold,
      ZERO_TUNING.paramPersistenceThreshold,
      10,
      1,
    ),
    modelPersistenceThreshold: given(zero.stage3_model_persistence_threshold, ZERO_TUNING.modelPersistenceThreshold),
    offloadParam: resolveParameterOffload(config),
    quantizedWeights: zero.zero_quantized_weights,
    quantizedNontrainableWeights: zero.zero_quantized_nontrainable_weights,
    quantizedGradients: zero.zero_quantized_gradients,
  };
  return { zeroStage: zero.stage as ZeroStage, zeroTuning, notes: notesOn(zero) };
}

/** Ranks of a machine that keep secondary slices together, of `ranks` that share the parameters. */
export function zeroInnerOf(config: DsConfig, ranks: number): number {
  const zero = config.zero_optimization;
  if (typeof zero === 'boolean') return 1;
  const size = zero.zero_hpz_partition_size;
  if (ranks % size === 0) return size;
  throw new ConfigError(
    'deepspeed.zero_optimization.zero_hpz_partition_size',
    `a divisor of the ${ranks} workers that share the parameters`,
    size,
    'It is the number of workers on each machine',
  );
}

/** What keys of DeepSpeed's way to move bytes ask for that is so anyway, and why it cannot be otherwise. */
const SETTLED: readonly (readonly [key: keyof ZeroBlock, so: unknown, why: string])[] = [
  ['contiguous_gradients', true, 'the gradients of a bucket always lie in one piece'],
  ['allgather_partitions', true, 'parameters are gathered, never broadcast'],
  ['allgather_bucket_size', null, 'what is gathered after a step is cut as reduce_bucket_size says'],
  ['reduce_scatter', true, 'gradients are reduced and scattered at once'],
  ['use_multi_rank_bucket_allreduce', true, 'all ranks reduce a bucket together'],
  ['round_robin_gradients', false, 'every rank owns an equal slice of every bucket'],
  ['load_from_fp32_weights', true, 'checkpoints hold the float32 masters'],
  ['elastic_checkpoint', true, 'every checkpoint opens at any stage on any number of workers'],
  ['ignore_unused_parameters', true, 'a parameter without a gradient is not stepped'],
  ['memory_efficient_linear', true, 'linear layers keep only what their derivative reads'],
  ['sub_group_size', null, 'the optimizer steps a bucket at a time, in memory'],
  ['stage3_gather_16bit_weights_on_model_save', true, 'the model is always saved whole, gathered a bucket at a time'],
  ['stage3_module_granularity_threshold', 0, 'a block is always fetched as one'],
  ['stage3_use_all_reduce_for_fetch_params', false, 'parameters are gathered'],
  ['stage3_allgather_sequential', false, 'a bucket is gathered as one'],
  ['legacy_stage1', false, 'stage 1 shards what it always did'],
  ['grad_hooks', true, 'a gradient is reduced as soon as it is whole'],
  ['leaf_module', null, 'a block is always fetched as one'],
  ['override_module_apply', true, 'first values go by name, rank by rank'],
  ['pipeline_loading_checkpoint', false, 'ranks read their own slices side by side'],
  ['log_trace_cache_warnings', false, 'the order of fetches is compiled, not traced'],
  ['enable_sanity_checks', false, 'ranks compare their plans before the first step'],
  ['save_muon_momentum_buffer_in_memory', true, 'momentum lies where the optimizer state lies'],
  ['mics_hierarchical_params_gather', false, 'there is no MiCS'],
];

function notesOn(zero: ZeroBlock): readonly string[] {
  const isOffloaded = (zero.offload_optimizer?.device ?? 'none') !== 'none';
  const notes = SETTLED.flatMap(([key, so, why]) =>
    zero[key] === undefined || zero[key] === null || zero[key] === so || (key === 'sub_group_size' && isOffloaded)
      ? []
      : [`zero_optimization.${key} has no effect: ${why}`],
  );
  if (zero.stage === 3) return notes;
  const early = Object.keys(zero).filter((key) => key.startsWith('stage3_'));
  return [...notes, ...early.map((key) => `zero_optimization.${key} has no effect at stage ${zero.stage}`)];
}

/** Blocks that ask by being there, and what to do instead. */
const ABSENT = [
  ['zenflow', 'ZenFlow is not there; offload_optimizer.ratio leaves a part of the optimizer on the device'],
  ['zeropp_loco_param', 'The error feedback of LoCo is not there; zero_quantized_gradients rounds without it'],
] as const;

function refuseUnsupported(zero: ZeroBlock): void {
  const needed = {
    zero_quantized_weights: 3,
    zero_quantized_nontrainable_weights: 3,
    zero_quantized_gradients: 2,
    zero_hpz_partition_size: 3,
  } as const;
  for (const name of Object.keys(needed) as (keyof typeof needed)[]) {
    const isOn = zero[name] === true || Number(zero[name]) > 1;
    if (isOn && zero.stage < needed[name])
      throw new ConfigError(
        `deepspeed.zero_optimization.${name}`,
        `stage ${needed[name]}${needed[name] === 3 ? '' : ' or 3'} beside it`,
        `stage ${zero.stage}`,
        'Below, nothing is exchanged that it could change',
      );
  }
  for (const [name, why] of ABSENT)
    if (zero[name] !== undefined && zero[name] !== null)
      throw new ConfigError(`deepspeed.zero_optimization.${name}`, 'not to be given', zero[name], why);
  if (zero.mics_shard_size > 0)
    throw new ConfigError(
      'deepspeed.zero_optimization.mics_shard_size',
      '-1',
      zero.mics_shard_size,
      'MiCS is not supported; zero_hpz_partition_size keeps the second gather on one machine',
    );
}
