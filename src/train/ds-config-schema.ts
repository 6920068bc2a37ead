// The ds_config.json that people already have, as a zod schema: types and ranges, no meaning (ds-config.ts gives that).
// Keys that only tune how DeepSpeed moves bytes are accepted; keys that would change results are understood or refused.
import { z } from 'zod';
import { elasticitySchema } from './ds-elasticity.js';
import { REFUSED_FIELDS, refuseOptimizer } from './ds-refused.js';
import { SCHEDULER_KEYS, scheduler } from './ds-schedule-schema.js';
import { SETTLED_FIELDS } from './ds-settled.js';
import { WATCH_FIELDS, WATCH_KEYS } from './ds-watch-schema.js';

const auto = z.literal('auto');
const count = z.int().min(1);
const flag = z.boolean();
const any = z.unknown().optional();

const rate = z.union([z.number().positive(), auto]);
const share = z.number().min(0).lt(1);
const weightDecay = z.union([z.number().min(0), auto]).default('auto');
const commonParams = { lr: rate.default('auto'), weight_decay: weightDecay };
const betas = z.union([z.tuple([share, share]), auto]).default('auto');
const eps = z.union([z.number().positive(), auto]).default('auto');

const adamParams = z.strictObject({
  ...commonParams,
  betas,
  eps,
  bias_correction: flag.default(true),
  adam_w_mode: flag.default(true),
  amsgrad: flag.optional(),
  max_grad_norm: any,
  // Which of DeepSpeed's kernels computes the step.
  torch_adam: flag.optional(),
  fused: flag.optional(),
});
const lionParams = z.strictObject({ ...commonParams, betas });
const adagradParams = z.strictObject({
  ...commonParams,
  eps,
  lr_decay: z.number().min(0).default(0),
  initial_accumulator_value: z.number().min(0).default(0),
});
const sgdParams = z.strictObject({
  ...commonParams,
  momentum: share.default(0),
  dampening: z.number().min(0).max(1).default(0),
  nesterov: flag.default(false),
});
const muonParams = z.strictObject({
  /** Of both parts, unless `muon_lr` and `adam_lr` say otherwise. */
  lr: rate.optional(),
  muon_lr: rate.optional(),
  adam_lr: rate.optional(),
  weight_decay: weightDecay,
  momentum: share.default(0.95),
  betas,
  eps,
  // Two ways to compute one iteration.
  ns_method: z.enum(['gram', 'standard']).optional(),
});

const optimizer = z.discriminatedUnion('type', [
  z.strictObject({ type: z.enum(['AdamW', 'Adam']), legacy_fusion: any, params: adamParams.prefault({}) }),
  z.strictObject({ type: z.literal('Lion'), params: lionParams.prefault({}) }),
  z.strictObject({ type: z.literal('Adagrad'), params: adagradParams.prefault({}) }),
  z.strictObject({ type: z.literal('SGD'), params: sgdParams.prefault({}) }),
  z.strictObject({ type: z.literal('Muon'), params: muonParams.prefault({}) }),
]);

const OPTIMIZER_TYPES = ['AdamW', 'Adam', 'Lion', 'Adagrad', 'SGD', 'Muon'];

/** DeepSpeed takes its optimizers' names in any case. Throws {@link ConfigError} for those that are not there. */
export function optimizerTypeOf(name: string): string {
  refuseOptimizer(name, OPTIMIZER_TYPES);
  return OPTIMIZER_TYPES.find((type) => type.toLowerCase() === name.toLowerCase()) ?? name;
}

const offload = z.strictObject({
  device: z.enum(['none', 'cpu', 'nvme']).default('none'),
  /** The folder of the files. */
  nvme_path: z.string().min(1).optional(),
  /** What is staged of the files has together at most `buffer_count` × `buffer_size` elements. */
  buffer_count: count.default(4),
  buffer_size: z
    .number()
    .min(32)
    .default(2 ** 20),
  /** The next piece is read, and the last one written, while one is stepped. */
  pipeline_read: flag.default(true),
  pipeline_write: flag.default(true),
  ratio: z.number().gt(0).max(1).default(1),
  max_in_cpu: any,
  pin_memory: any, // memory of the host is the CPU's own
  fast_init: any,
  super_offload: any,
  cpuadam_cores_perc: any,
});

/** Of parameters, at stage 3. */
const parameterOffload = z.strictObject({
  device: z.enum(['none', 'cpu', 'nvme']).default('none'),
  nvme_path: z.string().min(1).optional(),
  /** What is read ahead of the file: so many buffers, of so many elements at most. */
  buffer_count: count.default(5),
  buffer_size: z.number().min(2048).default(1e8),
  /** So many elements of a worker stay in memory, whatever they are read for. */
  max_in_cpu: z.number().min(0).default(1e9),
  pin_memory: any, // memory of the host is the CPU's own
});

/** A multiple of the pages of a file. */
const pages = z
  .int()
  .min(4096)
  .max(2 ** 30)
  .refine((bytes) => bytes % 4096 === 0, 'a multiple of 4096');

/** How files are read and written. */
const aio = z.strictObject({
  block_size: pages.default(2 ** 20),
  queue_depth: z.int().min(1).max(1024).default(8),
  intra_op_parallelism: z.int().min(1).max(64).default(1),
  /** What `intra_op_parallelism` was called before. */
  thread_count: z.int().min(1).max(64).optional(),
  single_submit: flag.default(false),
  overlap_events: flag.default(true),
  use_gds: flag.default(false),
});

/** A number of parameters. */
const elements = z.union([z.number().min(0), auto]).optional();

const zero = z.strictObject({
  stage: z.int().min(0).max(3).default(0),
  offload_optimizer: offload.optional(),
  offload_param: parameterOffload.optional(),
  zero_quantized_weights: flag.default(false),
  zero_quantized_nontrainable_weights: flag.default(false),
  zero_quantized_gradients: flag.default(false),
  zero_hpz_partition_size: count.default(1),
  mics_shard_size: z.int().default(-1),
  // How memory is traded for exchanges; results do not depend on it.
  overlap_comm: z.union([flag, z.null()]).optional(),
  reduce_bucket_size: elements,
  stage3_max_live_parameters: elements,
  stage3_max_reuse_distance: elements,
  stage3_model_persistence_threshold: elements,
  stage3_param_persistence_threshold: elements,
  stage3_prefetch_bucket_size: elements,
  // How DeepSpeed moves and stores bytes; where it asks for something else than what happens here anyway, a note says so.
  allgather_bucket_size: any,
  allgather_partitions: any,
  contiguous_gradients: any,
  elastic_checkpoint: any,
  ignore_unused_parameters: any,
  load_from_fp32_weights: any,
  memory_efficient_linear: any,
  reduce_scatter: any,
  round_robin_gradients: any,
  stage3_allgather_sequential: any,
  stage3_gather_16bit_weights_on_model_save: any,
  stage3_module_granularity_threshold: any,
  stage3_use_all_reduce_for_fetch_params: any,
  sub_group_size: any,
  use_multi_rank_bucket_allreduce: any,
  legacy_stage1: any,
  grad_hooks: any,
  leaf_module: any,
  override_module_apply: any,
  pipeline_loading_checkpoint: any,
  log_trace_cache_warnings: any,
  enable_sanity_checks: any,
  save_muon_momentum_buffer_in_memory: any,
  mics_hierarchical_params_gather: any,
  /** Refused where they are given. */
  zenflow: any,
  zeropp_loco_param: any,
});

const fp16 = z.strictObject({
  enabled: z.union([flag, auto]).default(false),
  /** 0: dynamic. */
  loss_scale: z.number().min(0).default(0),
  initial_scale_power: z.int().min(0).max(100).default(16),
  loss_scale_window: count.default(1000),
  hysteresis: count.default(2),
  consecutive_hysteresis: flag.default(false),
  min_loss_scale: z.number().positive().default(1),
  fp16_master_weights_and_grads: flag.default(false),
  auto_cast: any,
});

const bf16 = z.strictObject({
  enabled: z.union([flag, auto]).default(false),
  check_grad_overflow: flag.default(true),
  /** No float32 masters: the bf16 parameters are stepped, rounded by chance. Gradients of parameters stay float32. */
  bf16_master_weights_and_grads: flag.default(false),
  /** Optimizer states in bf16, rounded by chance. */
  bf16_optimizer_states: flag.default(false),
  immediate_grad_update: any,
});

/** How DeepSpeed stores what activation checkpointing keeps; the recipe says whether anything is made again. */
const activationCheckpointing = z.strictObject({
  partition_activations: flag.default(false),
  cpu_checkpointing: any,
  contiguous_memory_optimization: any,
  number_checkpoints: any,
  synchronize_checkpoint_boundary: any,
  profile: any,
});

/** DeepSpeed's block of pipelines, with the arguments of its PipelineModule. */
const pipeline = z.strictObject({
  stages: z.union([count, auto]).default('auto'),
  /** `parameters`, `uniform`, `cost` or `type:REGEX` over model paths. DeepSpeed's `best` is `parameters`. */
  partition_method: z.string().optional(),
  partition: z.string().optional(),
  /** Blocks that are computed again from one kept input; 0: none. */
  activation_checkpoint_interval: z.int().min(0).default(0),
  /** Parts of the model on each stage, which take turns (interleaved 1F1B). Not DeepSpeed's: Megatron's virtual stages. */
  virtual_stages: count.default(1),
  seed_layers: flag.default(false),
  // How DeepSpeed cuts what stages send each other between tensor parallel ranks.
  pipe_partitioned: any,
  grad_partitioned: any,
  use_reentrant: any,
});

/** DeepSpeed-Chat's, for workers that generate between two steps. */
const hybridEngine = z.strictObject({
  enabled: flag.default(false),
  /** Tokens of a sequence, prompt and continuation. DeepSpeed's default, 512, or the positions of a smaller model. */
  max_out_tokens: count.optional(),
  inference_tp_size: count.default(1),
  release_inference_cache: flag.default(false),
  pin_parameters: flag.default(true),
  tp_gather_partition_size: any,
});

/** DeepSpeed's block of tensor parallelism. What is cut is found in the model. */
const tensorParallel = z.strictObject({
  autotp_size: z.int().min(0).default(0),
  // How DeepSpeed finds what to cut.
  preset_model: any,
  partition_config: any,
  tp_overlap_comm: any,
  tp: any,
  dtype: any,
  injection_policy_tuple: any,
  keep_module_on_host: any,
  replace_with_kernel_inject: any,
  kernel_inject: any,
});

export const dsConfigSchema = z.strictObject({
  train_batch_size: z.union([count, auto]).default('auto'),
  train_micro_batch_size_per_gpu: z.union([count, auto]).default('auto'),
  gradient_accumulation_steps: z.union([count, auto]).default('auto'),
  gradient_clipping: z.union([z.number().min(0), auto]).default('auto'),
  optimizer: optimizer.prefault({ type: 'AdamW' }),
  scheduler: scheduler.optional(),
  zero_optimization: z.union([zero, flag]).default(false),
  aio: aio.prefault({}),
  activation_checkpointing: activationCheckpointing.optional(),
  pipeline: pipeline.optional(),
  hybrid_engine: hybridEngine.optional(),
  tensor_parallel: tensorParallel.optional(),
  sequence_parallel_size: count.optional(),
  elasticity: elasticitySchema.optional(),
  // Not DeepSpeed's, though many configurations have it: what Transformers calls gradient_checkpointing.
  checkpoint_activations: flag.default(false),
  fp16: fp16.optional(),
  bf16: bf16.optional(),
  ...WATCH_FIELDS,
  ...SETTLED_FIELDS,
  ...REFUSED_FIELDS,
});

/** A ds_config as it is written: DeepSpeed's keys, each optional. */
export type DsConfigInput = z.input<typeof dsConfigSchema>;
export type DsConfig = z.output<typeof dsConfigSchema>;

/** Every key of the schema, at any depth: what a misspelt one is compared with. */
export const DS_CONFIG_KEYS: readonly string[] = [
  ...Object.keys(dsConfigSchema.shape),
  ...Object.keys(zero.shape),
  ...[adamParams, lionParams, adagradParams, sgdParams, muonParams].flatMap(({ shape }) => Object.keys(shape)),
  ...Object.keys(offload.shape),
  ...Object.keys(aio.shape),
  ...Object.keys(fp16.shape),
  ...Object.keys(bf16.shape),
  ...Object.keys(activationCheckpointing.shape),
  ...Object.keys(pipeline.shape),
  ...Object.keys(hybridEngine.shape),
  ...Object.keys(tensorParallel.shape),
  ...Object.keys(elasticitySchema.shape),
  ...SCHEDULER_KEYS,
  ...WATCH_KEYS,
  'type',
  'params',
  'enabled',
];
