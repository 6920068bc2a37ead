// What a training job will need of each worker, before anything is started: from the very plans that would run.
import {
  type Axis,
  bubbleShare,
  type CompiledPipeline,
  compileLargest,
  exchangeBytesOf,
  type Life,
  type MemoryFigures,
  type PipelineShape,
  type Plan,
  type TrainingSettings,
  workspaceBytesOf,
} from '../engine/index.js';
import { chosenModel, hiddenSizeOf } from './chosen-model.js';
import { readDsConfig, resolveDsConfig } from './ds-config.js';
import { resolvePipeline } from './ds-pipeline.js';
import { fitMemory } from './fit-memory.js';
import { lossOf, recomputeOf } from './recipe.js';
import { checkTrainerOptions, type TrainerOptions, threadsOf } from './trainer-options.js';
import { resolveMeshes } from './worker-counts.js';

/** What a training job needs of each worker, from the plans that would run. Sizes are in bytes. */
export interface Estimate {
  readonly parameterCount: number;
  readonly workers: number;
  /** How the workers share the work: how many along each axis. */
  readonly mesh: Readonly<Record<Axis, number>>;
  readonly zeroStage: number;
  /** Rows of a worker's micro-batch, and tokens of a row. */
  readonly microBatch: number;
  readonly sequenceLength: number;
  /** What the backward makes again, in words. */
  readonly recompute: string;
  /** Bytes that each worker holds, by use. Workspaces are those of its threads, exchanges go through shared memory. */
  readonly memory: MemoryFigures & { readonly workspaceBytes: number; readonly exchangeBytes: number };
  /** Null without one. Other figures are those of the stage that needs most. */
  readonly pipeline:
    | (PipelineShape & {
        /** The stage that needs most memory. */
        readonly stage: number;
        /** First block of each part of the model: chunk c of stage s is part c × stages + s. */
        readonly starts: readonly number[];
        /** For each chunk of the stage, how many sets of kept activations there are at once, and the bytes of one. */
        readonly sets: readonly number[];
        readonly setBytes: readonly number[];
        /** Share of a step in which a stage waits, by the schedule. */
        readonly idleShare: number;
      })
    | null;
  /** The arena of a micro-batch: most bytes at once, the least that any layout needs, and who holds what when. */
  readonly arena: {
    readonly peakBytes: number;
    readonly lowerBoundBytes: number;
    readonly instructions: number;
    readonly lives: readonly Life[];
  };
}

/** Throws `ConfigError` for what a Trainer of these options would refuse. Reads the model's folder, not its weights or data. */
export async function estimate(options: TrainerOptions): Promise<Estimate> {
  const { recipe, scaling, deepspeed, run } = checkTrainerOptions(options);
  const { model, config } = await chosenModel(recipe);
  const dsConfig = await readDsConfig(deepspeed);
  const pipeline = resolvePipeline(dsConfig, scaling.pipelineParallel ?? null);
  const auto = { ...recipe, ...hiddenSizeOf(config), totalSteps: recipe.maxSteps ?? 1 };
  // The fewest workers of a range, where each needs most.
  const [workers, mesh] = [...resolveMeshes(scaling, dsConfig, pipeline, auto)].at(-1)!;
  const ds = resolveDsConfig(dsConfig, { ...auto, worldSize: mesh.data });
  const { microBatch } = ds.batch;
  const threads = threadsOf(scaling);
  const asked: TrainingSettings = {
    model,
    rows: microBatch * recipe.sequenceLength,
    strategy: { zeroStage: ds.zeroStage, tuning: ds.zeroTuning, mesh, rank: 0 },
    optimizer: ds.optimizer,
    ...ds.precision,
    loss: lossOf(recipe),
    dropout: recipe.dropout ?? 'model',
    recompute: ds.isRecomputed ? 'full' : (pipeline.recompute ?? recomputeOf(recipe)),
    pipeline: { micros: ds.batch.accumulation, partitionMethod: pipeline.partitionMethod },
    offload: ds.offload,
    sequenceParallelNorms: scaling.sequenceParallelNorms,
    hasEvaluation: run.evaluation !== undefined,
  };
  const settings = fitMemory({ settings: asked, microBatch, threads, memoryMiB: scaling.memoryMiBPerWorker ?? null });
  const compiled = compileLargest(settings);
  const { memory, parameterCount, recompute } = compiled;
  // Of a stage, what its last part has at once in its backward.
  const plan = compiled.kind === 'whole' ? compiled.micro : longest(compiled);
  const workspaceBytes = workspaceBytesOf(settings, threads);
  const exchangeBytes = exchangeBytesOf(mesh);
  return {
    parameterCount,
    workers,
    mesh: { tensor: mesh.tensor, sequence: mesh.sequence, data: mesh.data, pipeline: mesh.pipeline },
    zeroStage: ds.zeroStage,
    microBatch,
    sequenceLength: recipe.sequenceLength,
    recompute,
    memory: {
      ...memory,
      workspaceBytes,
      exchangeBytes,
      totalBytes: memory.totalBytes + workspaceBytes + exchangeBytes,
    },
    pipeline: compiled.kind === 'whole' ? null : pipelineOf(compiled),
    arena: { ...plan.arena, instructions: plan.graph.ops.length },
  };
}

/** The program of the most instructions. */
function longest({ parts }: CompiledPipeline): Plan {
  const plans = parts.flatMap(({ forward, backward }) => (backward ? [forward, backward] : [forward]));
  return plans.reduce((most, other) => (other.graph.ops.length > most.graph.ops.length ? other : most));
}

function pipelineOf({ shape, stage, starts, parts }: CompiledPipeline): NonNullable<Estimate['pipeline']> {
  const setBytes = parts.map(({ forward, kept }) => forward.buffers.find(({ name }) => name === kept)?.bytes ?? 0);
  return {
    ...shape,
    stage,
    starts,
    sets: parts.map(({ sets }) => sets),
    setBytes,
    idleShare: bubbleShare(shape),
  };
}
