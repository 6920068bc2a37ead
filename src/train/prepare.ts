// Everything that is known of a run before its first worker starts: its data, its sizes, and how each number of workers that it may
// have shares the work.
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ConfigError, newRunId, type RunId } from '../common/index.js';
import type { Tokenizer } from '../data/index.js';
import { compileLargest, type MemoryFigures, type Mesh } from '../engine/index.js';
import { generationMemory, generationSizes } from '../infer/index.js';
import { newest } from './checkpoint.js';
import { chosenModel, freshHeadsOf, hiddenSizeOf } from './chosen-model.js';
import { type BatchSizes, type ResolvedDsConfig, readDsConfig, resolveDsConfig } from './ds-config.js';
import { resolveHybrid } from './ds-hybrid.js';
import { pipelineNotes, resolvePipeline } from './ds-pipeline.js';
import type { Precision } from './ds-precision.js';
import { resolveMonitors } from './ds-watch.js';
import type { Feed } from './feed.js';
import { fitMemory } from './fit-memory.js';
import type { MonitorSettings } from './monitor/run-monitors.js';
import { type ProfileSettings, resolveProfile } from './profile-settings.js';
import type { TrainingEvent } from './progress.js';
import type { RankPlan } from './rank-plan.js';
import { lossOf, type PreparedData, recomputeOf } from './recipe.js';
import { type TrainerSettings, threadsOf } from './trainer-options.js';
import { resolveMeshes } from './worker-counts.js';

/** How a number of workers shares a run. */
export interface Share {
  readonly workers: number;
  readonly batch: BatchSizes;
  readonly plan: Omit<RankPlan, 'rank'>;
  /** Of the fullest worker. */
  readonly estimate: MemoryFigures;
}

export interface Prepared {
  readonly runId: RunId;
  readonly name: string;
  readonly runPath: string;
  readonly feed: Feed;
  /** What is measured between two steps; null: nothing is. */
  readonly heldOut: Feed | null;
  readonly evaluate: PreparedData['evaluate'];
  readonly tokenizer: Tokenizer;
  readonly precision: Precision;
  /** Where curves are written. */
  readonly monitors: readonly MonitorSettings[];
  /** Null: no step is profiled. */
  readonly profile: ProfileSettings | null;
  /** Rows of a step, whoever does them. */
  readonly trainBatch: number;
  readonly totalSteps: number;
  /** Under LoRA the adapter is exported too. */
  readonly isAdapter: boolean;
  /** Model, data, seed and sizes: equal for runs that can go on from each other's checkpoints. */
  readonly fingerprint: string;
  /** The numbers of workers that share a step evenly, largest first. */
  readonly counts: readonly number[];
  /** How long workers share the run at least before others join them. */
  readonly growAfterSeconds: number;
  /** Plans the run for one of `counts`. Throws {@link ConfigError} where so many have too little memory. */
  share(workers: number): Share;
}

/** Throws {@link ConfigError} for what contradicts itself, and DataError for records that nothing can be learnt from. */
export async function prepare(
  { recipe, scaling, deepspeed, run }: TrainerSettings,
  emit: (event: TrainingEvent) => void,
): Promise<Prepared> {
  const dsConfig = await readDsConfig(deepspeed);
  const pipeline = resolvePipeline(dsConfig, scaling.pipelineParallel ?? null);
  const hybrid = resolveHybrid(dsConfig, run.samples !== undefined);
  const auto = { ...recipe, totalSteps: recipe.maxSteps ?? 1 };
  if (run.samples !== undefined && recipe.kind !== 'sft')
    throw new ConfigError('trainer.run.samples', 'a recipe of a model that continues texts, sft', recipe.kind);
  // Contradictions are told before any work is done.
  const meshes = resolveMeshes(scaling, dsConfig, pipeline, auto);
  const counts = [...meshes.keys()];
  const runId = newRunId();
  const name = run.name ?? `${recipe.kind}-${runId}`;
  const runPath = resolve(run.storage, name);
  if (!run.resume && (await newest(runPath)) !== null)
    throw new ConfigError(
      'trainer.run.name',
      'a run without checkpoints',
      name,
      `Set run.resume to go on from ${runPath}`,
    );
  await mkdir(runPath, { recursive: true });

  const chosen = await chosenModel(recipe);
  const { config, adapter, model, tokenizer } = chosen;
  const { records, skippedRecords, feed, heldOut: held, evaluate } = await recipe.prepare(chosen);
  const hasEvaluation = run.evaluation !== undefined;
  if (hasEvaluation && held === null)
    throw new ConfigError(
      'trainer.run.evaluation',
      `a recipe that holds records out: ${recipe.kind === 'maskedLm' ? '' : 'evaluationData or '}heldOut`,
      run.evaluation,
    );
  const heldOut = hasEvaluation && held ? await held() : null;
  emit({ kind: 'data', records, skippedRecords, facts: feed.facts });

  const dsOf = (mesh: Mesh, totalSteps: number): ResolvedDsConfig =>
    resolveDsConfig(dsConfig, { ...auto, ...hiddenSizeOf(config), worldSize: mesh.data, totalSteps });
  const largest = meshes.get(counts[0]!)!;
  const { trainBatch } = dsOf(largest, 1).batch;
  const totalSteps = recipe.maxSteps ?? Math.max(1, Math.ceil((recipe.epochs * feed.facts.rowsPerEpoch) / trainBatch));
  const common = dsOf(largest, totalSteps);
  const notes = [...common.notes, ...hybrid.notes, ...pipelineNotes(pipeline, common.batch.accumulation)];
  if (notes.length > 0) emit({ kind: 'notes', notes });
  const { profile, notes: onProfile } = resolveProfile(dsConfig, {
    isAsked: run.profile,
    isOnGpus: scaling.gpusPerWorker > 0,
    totalSteps,
  });
  if (onProfile.length > 0) emit({ kind: 'notes', notes: onProfile });
  const monitors = resolveMonitors(dsConfig, {
    reportTo: run.reportTo,
    folder: run.loggingDir ?? join(runPath, 'runs'),
  });
  const loss = lossOf(recipe);
  const identity = [
    recipe.kind,
    config,
    recipe.model,
    recipe.sequenceLength,
    recipe.seed,
    recipe.dropout ?? null,
    loss,
    adapter,
    recipe.quantization,
    trainBatch,
    common.optimizer,
    common.precision,
    feed.digest(),
  ];
  const fingerprint = createHash('sha256').update(JSON.stringify(identity)).digest('hex');

  const planShare = (workers: number): Share => {
    const mesh = meshes.get(workers)!;
    const ds = dsOf(mesh, totalSteps);
    const { optimizer, precision, offload, batch } = ds;
    const rows = batch.microBatch * recipe.sequenceLength;
    const dropout = recipe.dropout ?? ('model' as const);
    const threads = threadsOf(scaling);
    const asked = ds.isRecomputed ? 'full' : (pipeline.recompute ?? recomputeOf(recipe));
    const parts = { micros: batch.accumulation, partitionMethod: pipeline.partitionMethod };
    const strategy = { zeroStage: ds.zeroStage, tuning: ds.zeroTuning, mesh, rank: 0 };
    const { sequenceParallelNorms } = scaling;
    const job = {
      ...{ model, rows, strategy, optimizer, loss, ...precision, dropout, pipeline: parts, offload },
      sequenceParallelNorms,
      hasEvaluation,
    };
    const settings = fitMemory({
      settings: { ...job, recompute: asked },
      microBatch: batch.microBatch,
      threads,
      memoryMiB: scaling.memoryMiBPerWorker ?? null,
    });
    const { recompute = asked } = settings;
    const compiled = compileLargest(settings);
    const estimate = compiled.memory;
    const sizes = generationSizes({ ...hybrid.settings, model });
    const sampleBytes =
      run.samples === undefined ? 0 : generationMemory({ ...compiled, mesh }, model, sizes).totalBytes;
    const plan = {
      mesh,
      threads,
      memory: { deviceBytes: estimate.totalBytes + sampleBytes, hostBytes: estimate.hostBytes },
      config,
      adapter,
      quantization: recipe.quantization,
      rows,
      zeroStage: ds.zeroStage,
      zeroTuning: ds.zeroTuning,
      offload,
      sequenceParallelNorms,
      hasEvaluation,
      optimizer,
      schedule: ds.schedule,
      precision,
      loss,
      dropout,
      recompute,
      pipeline: parts,
      hybrid: hybrid.settings,
      seed: recipe.seed,
      start:
        typeof recipe.model === 'string'
          ? ({ kind: 'folder', path: resolve(recipe.model), freshHeads: freshHeadsOf(recipe) } as const)
          : ({ kind: 'seed', seed: recipe.seed } as const),
    };
    return { workers, batch, plan, estimate };
  };
  // What cannot be is told before workers start.
  const shares = new Map([[counts[0]!, planShare(counts[0]!)]]);
  return {
    runId,
    name,
    runPath,
    feed,
    heldOut,
    evaluate,
    tokenizer,
    precision: common.precision,
    monitors,
    profile,
    trainBatch,
    totalSteps,
    isAdapter: adapter !== null,
    fingerprint,
    counts,
    growAfterSeconds: common.growAfterSeconds,
    share(workers) {
      const share = shares.get(workers) ?? planShare(workers);
      shares.set(workers, share);
      return share;
    },
  };
}
