// Every key that DeepSpeed documents (docs/_pages/config-json.md and the config classes behind it, 0.19.8) has one of three answers: it works, it
// changes nothing and a note says why, or it is refused with a reason. None is unknown.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '#src/common/index.js';
import { type DsConfigInput, readDsConfig, resolveDsConfig, sft, Trainer } from '#src/train/index.js';

type Answer = 'works' | 'note' | 'refused';
type Keys = Readonly<Record<string, readonly [value: unknown, answer: Answer]>>;

/** Keys under `at`, each tried alone beside `beside`. The values are not the defaults. */
interface Group {
  readonly at: string;
  readonly beside?: object;
  readonly keys: Keys;
}

const ADAM = { optimizer: { type: 'AdamW' } };
const scheduler = (type: string, params: object = {}) => ({ scheduler: { type, params } });
const CYCLE = { cycle_min_lr: 0.001, cycle_max_lr: 0.01 };
const NVME = { device: 'nvme', nvme_path: '/fast' };

const DOCUMENTED: readonly Group[] = [
  {
    at: '',
    keys: {
      train_batch_size: [8, 'works'],
      train_micro_batch_size_per_gpu: [2, 'works'],
      gradient_accumulation_steps: [2, 'works'],
      managed_gradient_accumulation: [false, 'note'],
      gradient_clipping: [0.5, 'works'],
      communication_data_type: ['fp16', 'note'],
      seq_parallel_communication_data_type: ['bf16', 'note'],
      gradient_allreduce_op: ['sum', 'refused'],
      prescale_gradients: [true, 'note'],
      gradient_predivide_factor: [2, 'note'],
      sparse_gradients: [true, 'note'],
      disable_allgather: [true, 'note'],
      dataloader_drop_last: [true, 'note'],
      zero_allow_untested_optimizer: [true, 'works'],
      zero_force_ds_cpu_optimizer: [false, 'note'],
      steps_per_print: [10, 'note'],
      wall_clock_breakdown: [true, 'works'],
      memory_breakdown: [true, 'note'],
      dump_state: [true, 'note'],
      log_level: ['info', 'note'],
      graph_harvesting: [true, 'note'],
      use_data_before_expert_parallelism: [true, 'note'],
      vocabulary_size: [50257, 'note'],
      check_overflow: [false, 'note'],
      allgather_size: [5e8, 'note'],
      sequence_parallel_size: [1, 'works'],
      zero_optimization: [true, 'works'],
      bfloat16: [{ enabled: true }, 'works'],
      wandb: [{ enabled: true, group: 'g', team: 't', project: 'p' }, 'refused'],
      comet: [{ enabled: true, samples_log_interval: 10 }, 'refused'],
      amp: [{ enabled: true, opt_level: 'O1' }, 'refused'],
      torch_autocast: [{ enabled: true, dtype: 'bfloat16', lower_precision_safe_modules: [] }, 'refused'],
      autotuning: [{ enabled: true, fast: false, results_dir: 'r', exps_dir: 'e', overwrite: true }, 'refused'],
      data_efficiency: [{ enabled: true, seed: 1, data_routing: {}, data_sampling: {} }, 'refused'],
      curriculum_learning: [{ enabled: true, curriculum_type: 'seqlen', min_difficulty: 8 }, 'refused'],
      progressive_layer_drop: [{ enabled: true, theta: 0.5, gamma: 0.001 }, 'refused'],
      eigenvalue: [{ enabled: true, verbose: true, max_iter: 100 }, 'refused'],
      quantize_training: [{ enabled: true }, 'refused'],
      expert_parallel: [{ enabled: true }, 'refused'],
      nebula: [{ enabled: true, persistent_storage_path: '/p', persistent_time_interval: 100 }, 'refused'],
      datastates_ckpt: [{ host_cache_size: 16 }, 'refused'],
      sparse_attention: [{ mode: 'fixed', block: 16 }, 'refused'],
      weight_quantization: [{ quantized_initialization: { num_bits: 4, group_size: 64 } }, 'refused'],
      compression_training: [
        { weight_quantization: { shared_parameters: { enabled: true }, different_groups: {} } },
        'refused',
      ],
      compile: [{ deepcompile: true, passes: ['autosp'], offload_activation: true }, 'note'],
    },
  },
  { at: 'timers.throughput', keys: { enabled: [false, 'note'], synchronized: [false, 'note'] } },
  {
    at: 'data_types',
    keys: {
      grad_accum_dtype: ['bf16', 'note'],
      param_dtype: ['bf16', 'note'],
      buffer_dtype: ['bf16', 'note'],
      keep_in_fp32_modules: [['norm'], 'note'],
    },
  },
  {
    at: 'checkpoint',
    keys: {
      tag_validation: ['Fail', 'note'],
      load_universal: [true, 'works'],
      use_node_local_storage: [true, 'refused'],
      parallel_write: [{ pipeline_stage: true }, 'works'],
      writer: [{ type: 'fast' }, 'refused'],
    },
  },
  {
    at: 'optimizer',
    keys: {
      type: ['Lion', 'works'],
      params: [{ lr: 1e-3 }, 'works'],
    },
    beside: ADAM,
  },
  {
    at: 'optimizer.params',
    beside: ADAM,
    keys: {
      lr: [1e-3, 'works'],
      betas: [[0.8, 0.9], 'works'],
      eps: [1e-6, 'works'],
      weight_decay: [0.1, 'works'],
      torch_adam: [true, 'note'],
      adam_w_mode: [false, 'works'],
      bias_correction: [false, 'works'],
      amsgrad: [true, 'refused'],
      max_grad_norm: [1, 'note'],
    },
  },
  {
    at: 'optimizer.params',
    beside: { optimizer: { type: 'Muon' } },
    keys: {
      momentum: [0.9, 'works'],
      muon_lr: [0.01, 'works'],
      adam_lr: [0.001, 'works'],
      ns_method: ['gram', 'note'],
    },
  },
  ...['OneBitAdam', 'ZeroOneAdam', 'OneBitLamb', 'Lamb', 'MuAdam', 'MuAdamW', 'MuSGD'].map(
    (type): Group => ({ at: 'optimizer', keys: { type: [type, 'refused'] } }),
  ),
  {
    at: 'scheduler.params',
    beside: scheduler('WarmupDecayLR'),
    keys: {
      warmup_min_lr: [1e-5, 'works'],
      warmup_max_lr: [1e-3, 'works'],
      warmup_num_steps: [10, 'works'],
      warmup_type: ['linear', 'works'],
      total_num_steps: [100, 'works'],
      last_batch_iteration: [-1, 'works'],
    },
  },
  {
    at: 'scheduler.params',
    beside: scheduler('WarmupCosineLR'),
    keys: { warmup_min_ratio: [0.1, 'works'], cos_min_ratio: [0.1, 'works'] },
  },
  {
    at: 'scheduler.params',
    beside: scheduler('LRRangeTest'),
    keys: {
      lr_range_test_min_lr: [0.01, 'works'],
      lr_range_test_step_size: [10, 'works'],
      lr_range_test_step_rate: [2, 'works'],
      lr_range_test_staircase: [true, 'works'],
    },
  },
  {
    at: 'scheduler.params',
    beside: scheduler('OneCycle', CYCLE),
    keys: {
      cycle_min_lr: [0.002, 'works'],
      cycle_max_lr: [0.02, 'works'],
      decay_lr_rate: [0.1, 'works'],
      cycle_first_step_size: [10, 'works'],
      cycle_second_step_size: [10, 'works'],
      cycle_first_stair_count: [2, 'works'],
      cycle_second_stair_count: [2, 'works'],
      decay_step_size: [2, 'works'],
      cycle_momentum: [false, 'works'],
      cycle_min_mom: [0.7, 'works'],
      cycle_max_mom: [0.95, 'works'],
      decay_mom_rate: [0.001, 'works'],
    },
  },
  {
    at: 'fp16',
    beside: { fp16: { enabled: true } },
    keys: {
      auto_cast: [true, 'note'],
      loss_scale: [128, 'works'],
      initial_scale_power: [8, 'works'],
      loss_scale_window: [10, 'works'],
      hysteresis: [1, 'works'],
      consecutive_hysteresis: [true, 'works'],
      min_loss_scale: [2, 'works'],
      fp16_master_weights_and_grads: [true, 'refused'],
    },
  },
  {
    at: 'bf16',
    beside: { bf16: { enabled: true } },
    keys: {
      immediate_grad_update: [true, 'note'],
      check_grad_overflow: [false, 'refused'],
      bf16_master_weights_and_grads: [true, 'works'],
      bf16_optimizer_states: [true, 'works'],
    },
  },
  {
    at: 'zero_optimization',
    beside: { zero_optimization: { stage: 3 } },
    keys: {
      stage: [2, 'works'],
      contiguous_gradients: [false, 'note'],
      reduce_scatter: [false, 'note'],
      reduce_bucket_size: [1e6, 'works'],
      use_multi_rank_bucket_allreduce: [false, 'note'],
      allgather_partitions: [false, 'note'],
      allgather_bucket_size: [1e6, 'note'],
      overlap_comm: [false, 'works'],
      load_from_fp32_weights: [false, 'note'],
      elastic_checkpoint: [false, 'note'],
      grad_hooks: [false, 'note'],
      round_robin_gradients: [true, 'note'],
      legacy_stage1: [true, 'note'],
      ignore_unused_parameters: [false, 'note'],
      sub_group_size: [1e6, 'note'],
      stage3_prefetch_bucket_size: [1e6, 'works'],
      stage3_param_persistence_threshold: [1e6, 'works'],
      stage3_model_persistence_threshold: [1e6, 'works'],
      stage3_max_live_parameters: [1e6, 'works'],
      stage3_max_reuse_distance: [1e6, 'works'],
      stage3_gather_16bit_weights_on_model_save: [false, 'note'],
      stage3_gather_fp16_weights_on_model_save: [true, 'works'],
      stage3_module_granularity_threshold: [1, 'note'],
      stage3_use_all_reduce_for_fetch_params: [true, 'note'],
      stage3_allgather_sequential: [true, 'note'],
      zero_hpz_partition_size: [2, 'works'],
      zero_quantized_weights: [true, 'works'],
      zero_quantized_nontrainable_weights: [true, 'works'],
      zero_quantized_gradients: [true, 'works'],
      zeropp_loco_param: [{ err_beta: 0.8, reset_T: 1024 }, 'refused'],
      mics_shard_size: [2, 'refused'],
      mics_hierarchical_params_gather: [true, 'note'],
      memory_efficient_linear: [false, 'note'],
      pipeline_loading_checkpoint: [true, 'note'],
      override_module_apply: [false, 'note'],
      log_trace_cache_warnings: [true, 'note'],
      enable_sanity_checks: [true, 'note'],
      save_muon_momentum_buffer_in_memory: [false, 'note'],
      leaf_module: [{ classes: ['X'] }, 'note'],
      zenflow: [{ topk_ratio: 0.1 }, 'refused'],
      cpu_offload: [true, 'works'],
      cpu_offload_param: [true, 'works'],
      cpu_offload_params: [true, 'works'],
      cpu_offload_use_pin_memory: [true, 'works'],
    },
  },
  {
    at: 'zero_optimization.offload_param',
    beside: { zero_optimization: { stage: 3, offload_param: NVME } },
    keys: {
      device: ['nvme', 'works'],
      nvme_path: ['/other', 'works'],
      buffer_count: [3, 'works'],
      buffer_size: [1e6, 'works'],
      max_in_cpu: [1e6, 'works'],
      pin_memory: [true, 'works'],
    },
  },
  {
    at: 'zero_optimization.offload_optimizer',
    beside: { zero_optimization: { stage: 3, offload_optimizer: NVME } },
    keys: {
      device: ['nvme', 'works'],
      nvme_path: ['/other', 'works'],
      buffer_count: [5, 'works'],
      pin_memory: [true, 'works'],
      pipeline_read: [false, 'works'],
      pipeline_write: [false, 'works'],
      fast_init: [true, 'note'],
      ratio: [0.5, 'works'],
      super_offload: [true, 'note'],
      cpuadam_cores_perc: [0.5, 'note'],
    },
  },
  {
    at: 'aio',
    keys: {
      block_size: [4096, 'works'],
      queue_depth: [4, 'works'],
      intra_op_parallelism: [2, 'works'],
      thread_count: [2, 'works'],
      single_submit: [true, 'works'],
      overlap_events: [false, 'works'],
      use_gds: [true, 'refused'],
    },
  },
  {
    at: 'activation_checkpointing',
    keys: {
      partition_activations: [true, 'note'],
      cpu_checkpointing: [true, 'note'],
      contiguous_memory_optimization: [false, 'note'],
      number_checkpoints: [4, 'note'],
      synchronize_checkpoint_boundary: [true, 'note'],
      profile: [true, 'note'],
    },
  },
  {
    at: 'pipeline',
    keys: {
      stages: [1, 'works'],
      partition: ['uniform', 'works'],
      seed_layers: [true, 'refused'],
      activation_checkpoint_interval: [1, 'works'],
      pipe_partitioned: [true, 'note'],
      grad_partitioned: [true, 'note'],
      use_reentrant: [true, 'note'],
    },
  },
  {
    at: 'tensor_parallel',
    keys: {
      autotp_size: [1, 'works'],
      preset_model: ['llama', 'note'],
      tp_overlap_comm: [true, 'note'],
      partition_config: [{ layer_specs: [] }, 'note'],
      tp: [{ tp_size: 2 }, 'note'],
      dtype: ['bf16', 'note'],
      injection_policy_tuple: [[], 'note'],
      keep_module_on_host: [true, 'note'],
      replace_with_kernel_inject: [true, 'note'],
    },
  },
  {
    at: 'elasticity',
    beside: { elasticity: { enabled: true, max_train_batch_size: 16, micro_batch_sizes: [2, 4] } },
    keys: {
      max_train_batch_size: [32, 'works'],
      micro_batch_sizes: [[2], 'works'],
      min_gpus: [1, 'works'],
      max_gpus: [8, 'works'],
      min_time: [20, 'works'],
      version: [0.1, 'works'],
      prefer_larger_batch: [false, 'works'],
      ignore_non_elastic_batch_info: [true, 'works'],
      model_parallel_size: [1, 'works'],
      num_gpus_per_node: [1, 'works'],
    },
  },
  {
    at: 'hybrid_engine',
    keys: {
      enabled: [true, 'works'],
      max_out_tokens: [64, 'works'],
      inference_tp_size: [1, 'works'],
      release_inference_cache: [true, 'works'],
      pin_parameters: [false, 'works'],
      tp_gather_partition_size: [4, 'works'],
    },
  },
  ...['tensorboard', 'csv_monitor'].map(
    (at): Group => ({
      at,
      keys: { enabled: [true, 'works'], output_path: ['logs', 'works'], job_name: ['mine', 'works'] },
    }),
  ),
  {
    at: 'flops_profiler',
    keys: {
      enabled: [true, 'works'],
      profile_step: [4, 'works'],
      top_modules: [3, 'works'],
      detailed: [false, 'works'],
      output_file: ['profile.txt', 'works'],
      module_depth: [2, 'note'],
      recompute_fwd_factor: [1, 'note'],
    },
  },
  {
    at: 'comms_logger',
    keys: {
      enabled: [true, 'works'],
      prof_all: [false, 'works'],
      prof_ops: [['all_reduce'], 'works'],
      verbose: [true, 'note'],
      debug: [true, 'note'],
    },
  },
];

/** `config` with `value` at `path`. */
function withValue(config: object, path: readonly string[], value: unknown): object {
  const [key, ...rest] = path;
  const inner = (config as Readonly<Record<string, object | undefined>>)[key!] ?? {};
  return { ...config, [key!]: rest.length === 0 ? value : withValue(inner, rest, value) };
}

async function notesOf(config: object): Promise<readonly string[]> {
  const auto = {
    worldSize: 1,
    totalSteps: 100,
    learningRate: 1e-3,
    weightDecay: 0,
    maxGradientNorm: 1,
    microBatch: 2,
  };
  return resolveDsConfig(await readDsConfig(config as DsConfigInput), auto).notes;
}

for (const { at, beside = {}, keys } of DOCUMENTED)
  test(`keys of ${at === '' ? 'a ds_config' : at}${'optimizer' in beside || 'scheduler' in beside ? ` (${JSON.stringify(beside)})` : ''}: ${Object.keys(keys).join(', ')}`, async () => {
    for (const [key, [value, expected]] of Object.entries(keys)) {
      const path = at === '' ? key : `${at}.${key}`;
      const config = withValue(beside, path.split('.'), value);
      try {
        const notes = await notesOf(config);
        const isNoted = notes.some((note) => note.startsWith(path) && / has no effect: \w/.test(note));
        assert.equal(isNoted ? 'note' : 'works', expected, `${path}: ${notes.join()}`);
        if (expected === 'works') assert.deepEqual(notes, await notesOf(beside), path);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        assert.equal(expected, 'refused', `${path}: ${error.message}`);
        assert.ok(error.message.includes(path), error.message);
        assert.match(error.message, /got [\s\S]+\. [A-Z1]/, 'with a reason');
        assert.doesNotMatch(error.message, /There is no such key|Did you mean/);
      }
    }
  });

test('a block that is not done may stand there while it is not enabled', async () => {
  const blocks = ['wandb', 'comet', 'amp', 'torch_autocast', 'autotuning', 'data_efficiency', 'curriculum_learning'];
  const others = ['progressive_layer_drop', 'eigenvalue', 'quantize_training', 'expert_parallel', 'nebula'];
  const watching = [
    'tensorboard',
    'csv_monitor',
    'flops_profiler',
    'comms_logger',
    'fp16',
    'bf16',
    'hybrid_engine',
    'elasticity',
  ];
  for (const block of [...blocks, ...others, ...watching])
    assert.deepEqual(await notesOf({ [block]: { enabled: false } }), [], block);
  assert.deepEqual(
    await notesOf({
      sparse_attention: { mode: 'dense' },
      compression_training: { weight_quantization: { shared_parameters: { enabled: false } } },
      compile: { deepcompile: false },
    }),
    [],
  );
});

test('a value of the wrong type is told what it may be', async () => {
  await assert.rejects(
    notesOf({ gradient_clipping: 'x' }),
    /gradient_clipping: expected a value of type number or one of "auto", got "x"/,
  );
  const recipe = sft({ model: './none', data: 'none.jsonl' });
  assert.throws(
    () => new Trainer({ recipe, run: { reportTo: 'wandb' as 'csv' } }),
    /run\.reportTo: expected one of "tensorboard", "csv", "none" or a value of type array, got "wandb"/,
  );
});

test('a legacy spelling beside the one of today is refused by name', async () => {
  await assert.rejects(notesOf({ bf16: { enabled: true }, bfloat16: { enabled: true } }), /bfloat16: expected a key/);
});

test("the blocks of Hugging Face's documentation are taken as they are", async () => {
  const notes = await notesOf({
    fp16: { enabled: 'auto', loss_scale: 0, loss_scale_window: 1000, initial_scale_power: 16, hysteresis: 2 },
    optimizer: { type: 'AdamW', params: { lr: 'auto', betas: 'auto', eps: 'auto', weight_decay: 'auto' } },
    scheduler: {
      type: 'WarmupDecayLR',
      params: { total_num_steps: 'auto', warmup_min_lr: 'auto', warmup_max_lr: 'auto', warmup_num_steps: 'auto' },
    },
    zero_optimization: {
      stage: 3,
      offload_optimizer: { device: 'cpu', pin_memory: true },
      offload_param: { device: 'cpu', pin_memory: true },
      overlap_comm: true,
      contiguous_gradients: true,
      sub_group_size: 1e9,
      reduce_bucket_size: 'auto',
      stage3_prefetch_bucket_size: 'auto',
      stage3_param_persistence_threshold: 'auto',
      stage3_max_live_parameters: 1e9,
      stage3_max_reuse_distance: 1e9,
      stage3_gather_16bit_weights_on_model_save: true,
    },
    gradient_accumulation_steps: 'auto',
    gradient_clipping: 'auto',
    train_batch_size: 'auto',
    train_micro_batch_size_per_gpu: 'auto',
    flops_profiler: { enabled: false, profile_step: 1, module_depth: -1, top_modules: 1, detailed: true },
    comms_logger: { enabled: false, verbose: false, prof_all: true, debug: false },
    tensorboard: { enabled: false, output_path: 'output/', job_name: 'train' },
    csv_monitor: { enabled: false, output_path: 'output/', job_name: 'train' },
    wandb: { enabled: false, group: 'g', team: 't', project: 'p' },
    wall_clock_breakdown: false,
  });
  assert.deepEqual(notes, []);
});
