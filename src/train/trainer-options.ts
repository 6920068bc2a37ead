// The options of a Trainer, checked once and with their defaults filled in.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { DsConfigInput } from './ds-config.js';
import { parse } from './parse.js';
import type { Recipe } from './recipe.js';
import { isElastic, type WorkerRange } from './worker-counts.js';

const count = z.int().min(1);

const scaling = z.strictObject({
  /**
   * Ranks, each an actor. Default 1. A range `{ min, max }` for workers that come and go: a run starts with as many as there is room for, goes
   * on from its last checkpoint with fewer where a node is lost for good, and takes in others behind a checkpoint once there is room again.
   * The rows of a step stay the same (`train_batch_size` must be given); numbers that share them unevenly are passed over.
   */
  workers: z
    .union([count, z.strictObject({ min: count, max: count })])
    .default(1)
    .transform((workers): WorkerRange => (typeof workers === 'number' ? { min: workers, max: workers } : workers)),
  /** Cores that each worker reserves and computes on. Default 1. */
  cpusPerWorker: z.number().min(0).default(1),
  /**
   * Most memory of a worker's parameters, gradients, optimizer state, activations and workspaces. What does not fit is computed
   * again in the backward, as little as possible; what cannot fit is refused before anything is allocated. Default: no limit.
   */
  memoryMiBPerWorker: z.number().positive().optional(),
  /**
   * Stages of a pipeline: the blocks of the model are cut into so many parts, on different workers, and micro-batches go through them
   * one behind the other. `workers` divided by it are data parallel. Default: `pipeline.stages` of the ds_config, or 1.
   */
  pipelineParallel: count.optional(),
  /**
   * Workers that share each large matrix: heads, columns of the feed-forward and entries of the vocabulary are cut into so many parts. Workers
   * that follow each other. Default: `tensor_parallel.autotp_size` of the ds_config, or 1.
   */
  tensorParallel: count.optional(),
  /**
   * Beside tensorParallel: between the matrices that they share, each of those workers has its part of the rows alone, so that norms, dropout and what the
   * backward keeps of them are shared too (Megatron-LM's sequence parallelism). The same bytes are exchanged. Default false.
   */
  sequenceParallelNorms: z.boolean().default(false),
  /** Workers that share the rows of each micro-batch, for long sequences. Default: `sequence_parallel_size` of the ds_config, or 1. */
  sequenceParallel: count.optional(),
  /**
   * 0 (default): workers compute on their cores. 1: each on a GPU of its own; a fraction: on its part of one, which several share. Ranks on
   * GPUs of their own exchange by NCCL where it is installed, else through the host.
   */
  gpusPerWorker: z.number().min(0).max(1).default(0),
  /**
   * `pack` (default): few nodes, shared memory between ranks. `spread`: over as many nodes as there are. All ranks start, or none
   * yet. (Ranks that reserve no cores, `cpusPerWorker: 0`, start wherever they may.)
   */
  placement: z.enum(['pack', 'spread']).default('pack'),
});

const reportTarget = z.enum(['tensorboard', 'csv', 'none']);

const run = z.strictObject({
  name: z
    .string()
    .regex(/^[\w][\w.-]{0,99}$/, 'a name of letters, digits, "_", "." and "-"')
    .optional(),
  /** A folder that all nodes see under this path. Default "raylite_results" in the home folder: a job's own folder ends with its cluster. */
  storage: z
    .string()
    .min(1)
    .default(() => join(homedir(), 'raylite_results')),
  /** Go on from the newest checkpoint of a run of this name. Default false: such a run is refused. */
  resume: z.boolean().default(false),
  /** Takes the time of every kind of instruction, in five steps after three of warm-up. Default false. */
  profile: z.boolean().default(false),
  /** Curves are written as TensorBoard's event files, CSV files or both (Transformers' `report_to`). Default: neither. */
  reportTo: z
    .union([reportTarget, z.array(reportTarget)])
    .default('none')
    .transform((targets) => [targets].flat().filter((target) => target !== 'none')),
  /** The folder of those files. Default: `runs` in the folder of the run. */
  loggingDir: z.string().min(1).optional(),
  /** Has the model continue `prompts` every `everySteps` steps, with the weights that are being trained. Default: never. */
  samples: z
    .strictObject({ prompts: z.array(z.string().min(1)).min(1), everySteps: count, maxNewTokens: count.default(32) })
    .optional(),
  /** Measures the loss on what the recipe holds out every `everySteps` steps, and behind the last. Default: at the end alone, where it holds out any. */
  evaluation: z
    .strictObject({
      everySteps: count,
      /** The run leaves the model of the lowest of these losses, not the last one (Transformers' `load_best_model_at_end`). Default false. */
      keepBest: z.boolean().default(false),
      /** Ends the run when so many measurements in a row were no better than the best before. Default: never. */
      patience: count.optional(),
    })
    .optional(),
  failure: z
    .strictObject({
      /** How often workers may be lost. -1: as often as they are. Default 0. */
      maxFailures: z.int().min(-1).default(0),
      /**
       * How long a run that lost workers waits for room for others, on nodes that are there or come; then it ends with TrainingError.
       * -1: without end. Default 600, as torchrun's `join_timeout`.
       */
      joinTimeoutSeconds: z
        .int()
        .min(-1)
        .max(2_000_000)
        .refine((seconds) => seconds !== 0, 'a positive number of seconds, or -1 for no limit')
        .default(600),
      /**
       * How long a worker that lives may let the others wait in an exchange (the `timeout` of torch's groups, Transformers' `ddp_timeout`): then
       * all of them end with an error that names it, as at the loss of a worker. Who is late is told after 4 s. Default 600.
       */
      collectiveTimeoutSeconds: z.number().positive().max(2_000_000).default(600),
    })
    .prefault({}),
  checkpoint: z.strictObject({ everySteps: z.int().min(0).default(0), numToKeep: count.default(2) }).prefault({}),
});

const KEYS = [
  ...Object.keys(scaling.shape),
  ...Object.keys(run.shape),
  'min',
  'max',
  'maxFailures',
  'joinTimeoutSeconds',
  'keepBest',
  'patience',
  'collectiveTimeoutSeconds',
  'everySteps',
  'numToKeep',
  'prompts',
  'maxNewTokens',
  'recipe',
  'scaling',
  'deepspeed',
  'run',
];

const schema = z.strictObject({
  recipe: z.unknown().optional(), // checked below
  scaling: scaling.prefault({}),
  deepspeed: z.unknown().optional(), // checked by its own schema
  run: run.prefault({}),
});

/** A training run. Names and defaults of `deepspeed` are those of a ds_config. */
export interface TrainerOptions {
  readonly recipe: Recipe;
  readonly scaling?: z.input<typeof scaling>;
  /** A ds_config as an object or the path of one. Default: ZeRO stage 1 and "auto" for everything else. */
  readonly deepspeed?: DsConfigInput | string;
  readonly run?: z.input<typeof run>;
}

export interface TrainerSettings {
  readonly recipe: Recipe;
  readonly scaling: z.output<typeof scaling>;
  readonly deepspeed: DsConfigInput | string;
  readonly run: z.output<typeof run>;
}

export function checkTrainerOptions(options: TrainerOptions): TrainerSettings {
  const checked = parse(schema, options, 'trainer', KEYS);
  if (typeof options.recipe?.prepare !== 'function')
    throw new ConfigError('trainer.recipe', 'a recipe, e.g. sft({ … })', options.recipe);
  if (/^\w+:\/\//.test(checked.run.storage))
    throw new ConfigError(
      'trainer.run.storage',
      'a folder',
      checked.run.storage,
      'Object storage is not supported yet; use a folder that every node mounts',
    );
  if (checked.scaling.gpusPerWorker > 0 && checked.run.profile)
    throw new ConfigError('trainer.run.profile', 'false on GPUs', true, 'What they could do is not measured yet');
  const { workers, cpusPerWorker, gpusPerWorker } = checked.scaling;
  if (workers.max < workers.min)
    throw new ConfigError('trainer.scaling.workers.max', `at least min, ${workers.min}`, workers.max);
  if (isElastic(workers) && cpusPerWorker + gpusPerWorker === 0)
    throw new ConfigError(
      'trainer.scaling.cpusPerWorker',
      'a positive number beside a range of workers',
      0,
      'How many workers there is room for follows from what each reserves',
    );
  return {
    ...checked,
    recipe: options.recipe,
    deepspeed: options.deepspeed ?? { optimizer: { type: 'AdamW' }, zero_optimization: { stage: 1 } },
  };
}

/** Of a worker, on its cores. */
export const threadsOf = ({ cpusPerWorker }: TrainerSettings['scaling']): number =>
  Math.max(1, Math.floor(cpusPerWorker));
