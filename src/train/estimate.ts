// What a training job will need of each worker, before anything is started: from the very plans that would run.
import {
  compileTraining,
  type Life,
  type MemoryFigures,
  meshOver,
  type TrainingSettings,
  workspaceBytesOf,
} from '../engine/index.js';
import { chosenModel, hiddenSizeOf } from './chosen-model.js';
import { readDsConfig, resolveDsConfig } from './ds-config.js';
import { fitMemory } from './fit-memory.js';
import { lossOf, recomputeOf } from './recipe.js';
import { checkTrainerOptions, type TrainerOptions } from './trainer-options.js';

export interface Estimate {
  readonly parameterCount: number;
  readonly workers: number;
  readonly zeroStage: number;
  /** Rows of a worker's micro-batch, and tokens of a row. */
  readonly microBatch: number;
  readonly sequenceLength: number;
  /** What the backward makes again, in words. */
  readonly recompute: string;
  /** Bytes that each worker holds, by use. Workspaces are those of its threads. */
  readonly memory: MemoryFigures & { readonly workspaceBytes: number };
  /** The arena of a micro-batch: most bytes at once, the least that any layout needs, and who holds what when. */
  readonly arena: {
    readonly peakBytes: number;
    readonly lowerBoundBytes: number;
    readonly instructions: number;
    readonly lives: readonly Life[];
  };
}

/** Throws {@link ConfigError} for what a Trainer of these options would refuse. Reads the model's folder, not its weights or data. */
export async function estimate(options: TrainerOptions): Promise<Estimate> {
  const { recipe, scaling, deepspeed } = checkTrainerOptions(options);
  const { model, config } = await chosenModel(recipe);
  const { workers } = scaling;
  const mesh = meshOver(workers);
  const ds = resolveDsConfig(await readDsConfig(deepspeed), {
    ...recipe,
    ...hiddenSizeOf(config),
    worldSize: mesh.data,
    totalSteps: recipe.maxSteps ?? 1,
  });
  const { microBatch } = ds.batch;
  const threads = Math.max(1, Math.floor(scaling.cpusPerWorker));
  const asked: TrainingSettings = {
    model,
    rows: microBatch * recipe.sequenceLength,
    strategy: { zeroStage: ds.zeroStage, tuning: ds.zeroTuning, mesh, rank: 0 },
    optimizer: ds.optimizer,
    ...ds.precision,
    loss: lossOf(recipe),
    dropout: recipe.dropout ?? 'model',
    recompute: ds.isRecomputed ? 'full' : recomputeOf(recipe),
  };
  const settings = fitMemory({ settings: asked, microBatch, threads, memoryMiB: scaling.memoryMiBPerWorker ?? null });
  const { micro, memory, parameterCount, recompute } = compileTraining(settings);
  const workspaceBytes = workspaceBytesOf(settings, threads);
  return {
    parameterCount,
    workers,
    zeroStage: ds.zeroStage,
    microBatch,
    sequenceLength: recipe.sequenceLength,
    recompute,
    memory: { ...memory, workspaceBytes, totalBytes: memory.totalBytes + workspaceBytes },
    arena: { ...micro.arena, instructions: micro.graph.ops.length },
  };
}
