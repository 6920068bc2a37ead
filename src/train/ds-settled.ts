// Keys of a ds_config, apart from those of ZeRO, that are taken and change nothing: what they ask for that is so anyway, and why it
// cannot be otherwise. Who asks for something else is told.
import { z } from 'zod';
import { valueAt } from '../common/index.js';

const FLOAT32 =
  'gradients are added up and exchanged in float32 (zero_quantized_gradients sends a quarter of the bytes)';
const SEEN = 'progress is told step by step: onProgress, the page, raylite status';
const COMPILED = 'every step is a compiled plan already';

/** `so` is what happens here; `undefined` where no value says it. */
const SETTLED: readonly (readonly [path: string, so: unknown, why: string])[] = [
  ['prescale_gradients', false, FLOAT32],
  ['gradient_predivide_factor', 1, FLOAT32],
  ['communication_data_type', 'fp32', FLOAT32],
  ['data_types.grad_accum_dtype', 'fp32', FLOAT32],
  ['data_types.param_dtype', undefined, 'bf16.enabled and fp16.enabled choose the type of parameters'],
  ['data_types.buffer_dtype', undefined, 'bf16.enabled and fp16.enabled choose the type of buffers'],
  ['data_types.keep_in_fp32_modules', 'auto', 'sums, norms and softmax are float32 inside, whatever is stored'],
  ['seq_parallel_communication_data_type', undefined, 'activations are exchanged in the type that they are stored in'],
  ['sparse_gradients', false, 'gradients of embeddings are exchanged whole, like all others'],
  ['disable_allgather', false, 'stepped parameters are always gathered'],
  ['allgather_size', undefined, 'what is gathered after a step is cut as reduce_bucket_size says'],
  ['dataloader_drop_last', false, 'rows of the next pass over the data fill up the last step of one'],
  ['managed_gradient_accumulation', true, 'a Trainer always knows where a step ends'],
  ['zero_force_ds_cpu_optimizer', true, 'an offloaded optimizer always steps in native code'],
  ['zero_allow_untested_optimizer', true, 'every optimizer is tested at every stage'],
  ['steps_per_print', undefined, SEEN],
  ['log_level', undefined, SEEN],
  ['memory_breakdown', false, 'memory is told by `raylite estimate` before a run, and by its progress'],
  ['dump_state', false, 'what a ds_config comes to is told by notes and by the started event'],
  ['timers.throughput.enabled', true, SEEN],
  ['timers.throughput.synchronized', true, 'a step ends when all of its work has'],
  ['graph_harvesting', false, COMPILED],
  ['compile.deepcompile', undefined, COMPILED],
  ['vocabulary_size', undefined, "it is the model's"],
  ['use_data_before_expert_parallelism', false, 'models with experts are not there'],
  ['check_overflow', true, 'gradients are always checked'],
  ['optimizer.legacy_fusion', undefined, 'a step is one pass over each slice'],
  ['optimizer.params.torch_adam', undefined, 'there is one kernel of it for each device'],
  ['optimizer.params.max_grad_norm', undefined, 'gradient_clipping is the largest norm of gradients'],
  ['optimizer.params.fused', true, 'a step is one pass over each slice'],
  ['optimizer.params.ns_method', undefined, 'there is one kernel of it for each device'],
  ['zero_optimization.offload_optimizer.fast_init', false, 'state is made where it lies'],
  ['zero_optimization.offload_optimizer.super_offload', false, 'ratio and buffer_count say what is stepped where'],
  ['zero_optimization.offload_optimizer.cpuadam_cores_perc', undefined, 'a worker steps on its scaling.cpusPerWorker'],
  ['fp16.auto_cast', undefined, 'inputs are token ids'],
  ['bf16.immediate_grad_update', undefined, 'gradients are float32 where they are made'],
  ['checkpoint.tag_validation', undefined, 'a checkpoint is committed once, when all ranks have written to it'],
  [
    'activation_checkpointing.partition_activations',
    false,
    'of workers that share matrices each keeps what lies between them whole; scaling.sequenceParallelNorms cuts it',
  ],
  [
    'activation_checkpointing.cpu_checkpointing',
    false,
    "the recipe's gradientCheckpointing computes activations again instead of moving them",
  ],
  ['activation_checkpointing.contiguous_memory_optimization', true, 'activations lie in one arena'],
  [
    'activation_checkpointing.number_checkpoints',
    null,
    "the recipe's gradientCheckpointing says what is kept: { every: N } blocks",
  ],
  ['activation_checkpointing.synchronize_checkpoint_boundary', false, 'a plan says what waits for what'],
  ['activation_checkpointing.profile', false, 'run.profile takes the time of every kind of instruction'],
  ['pipeline.pipe_partitioned', undefined, 'stages send each other what the mesh of their ranks asks for'],
  ['pipeline.grad_partitioned', undefined, 'stages send each other what the mesh of their ranks asks for'],
  ['pipeline.use_reentrant', undefined, 'the backward is compiled, not recorded'],
  ['tensor_parallel.preset_model', undefined, 'what is cut is found in the model'],
  ['tensor_parallel.partition_config', undefined, 'what is cut is found in the model'],
  ['tensor_parallel.tp_overlap_comm', undefined, 'a plan puts exchanges beside whatever does not wait for them'],
  ['tensor_parallel.tp', undefined, 'autotp_size is the number of parts'],
  ['tensor_parallel.dtype', undefined, 'bf16.enabled and fp16.enabled choose the type'],
  ['tensor_parallel.injection_policy_tuple', undefined, 'what is cut is found in the model'],
  ['tensor_parallel.keep_module_on_host', undefined, 'ranks read only their own parts'],
  ['tensor_parallel.replace_with_kernel_inject', undefined, 'kernels are native already'],
  ['tensor_parallel.kernel_inject', undefined, 'kernels are native already'],
  ['flops_profiler.module_depth', -1, 'the table is by kinds of instructions, not by modules'],
  ['flops_profiler.recompute_fwd_factor', 0, 'what is computed again is counted where it runs'],
  ['comms_logger.verbose', false, 'times are kept and told together'],
  ['comms_logger.debug', false, 'instructions have names already'],
];

const any = z.unknown().optional();

/** Keys of the table that stand at the top, and its blocks that have no other meaning, for the schema of a ds_config. */
export const SETTLED_FIELDS = {
  prescale_gradients: any,
  gradient_predivide_factor: any,
  communication_data_type: any,
  seq_parallel_communication_data_type: any,
  sparse_gradients: any,
  disable_allgather: any,
  allgather_size: any,
  dataloader_drop_last: any,
  managed_gradient_accumulation: any,
  zero_force_ds_cpu_optimizer: any,
  zero_allow_untested_optimizer: any,
  steps_per_print: any,
  log_level: any,
  memory_breakdown: any,
  dump_state: any,
  graph_harvesting: any,
  vocabulary_size: any,
  use_data_before_expert_parallelism: any,
  check_overflow: any,
  gradient_allreduce_op: z.enum(['mean', 'sum']).optional(),
  data_types: z
    .strictObject({ grad_accum_dtype: any, param_dtype: any, buffer_dtype: any, keep_in_fp32_modules: any })
    .optional(),
  timers: z.strictObject({ throughput: z.strictObject({ enabled: any, synchronized: any }).optional() }).optional(),
  checkpoint: z
    .strictObject({
      tag_validation: any,
      load_universal: any, // every checkpoint opens at any stage on any number of workers
      use_node_local_storage: any,
      parallel_write: z.strictObject({ pipeline_stage: any }).optional(), // ranks write side by side
      writer: any,
    })
    .optional(),
  /** DeepCompile. */
  compile: z.looseObject({ deepcompile: any }).optional(),
};

/** Notes for what `config` asks for and does not get. "auto" and null leave a choice. */
export function settledNotes(config: object): readonly string[] {
  return SETTLED.flatMap(([path, so, why]) => {
    const given = valueAt(config, path);
    const isOpen = given === undefined || given === null || given === 'auto' || given === so;
    // A switch that has no word for what happens here asks for nothing while it is off.
    return isOpen || (so === undefined && given === false) ? [] : [`${path} has no effect: ${why}`];
  });
}
