// The Trainer: prepares data and plan, runs attempts until the steps are done, keeps checkpoints, hands back the model.
// It places and orders; the arithmetic is in the ranks (rank.ts), the bytes are in the object store (feed.ts).
import { join } from 'node:path';
import { ConfigError, EngineError, type RunId, TaskError, TrainingError } from '../common/index.js';
import { coordinatesOf, type FloatType, type MemoryFigures, type StepProfile } from '../engine/index.js';
import { BubbleMeter, type PipelineMetrics } from './bubble.js';
import { checkpointPath, commit, newest } from './checkpoint.js';
import { isWorthRetrying } from './failure.js';
import { type Prepared, prepare, type Share } from './prepare.js';
import { Pace, type StepEvent, stepReport, type TrainingEvent } from './progress.js';
import type { StepOrder, StepReport } from './rank.js';
import { RankGroup } from './rank-group.js';
import type { Scores } from './recipe.js';
import { RunReporter } from './run-reporter.js';
import { takeSamples } from './samples.js';
import { type ScalerState, startScaler } from './scaler.js';
import { checkTrainerOptions, type TrainerOptions, type TrainerSettings } from './trainer-options.js';
import { isElastic } from './worker-counts.js';

export interface FitOptions {
  readonly onProgress?: (event: TrainingEvent) => void;
  /** Ends the run: workers are ended and `fit` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface TrainingResult {
  readonly runId: RunId;
  /** Mean loss over trained tokens, of every step from the first. */
  readonly losses: readonly number[];
  /** The newest checkpoint, or null if none was asked for. */
  readonly checkpoint: string | null;
  /** A Hugging Face folder: config.json, model.safetensors, tokenizer. Under LoRA with the adapter added in. */
  readonly model: string;
  /** Under LoRA the adapter alone, as a folder that peft opens; else null. */
  readonly adapter: string | null;
  /** Of the model on the records that the recipe held out, by name; null where it holds out none. */
  readonly evaluation: Scores | null;
  readonly metrics: {
    readonly steps: number;
    readonly epochs: number;
    readonly seconds: number;
    readonly tokensPerSecond: number;
    readonly failures: number;
    /** Steps of a 16-bit run that changed nothing, because their gradients were not finite. */
    readonly skippedSteps: number;
    /** Of a run in float16, at its end. */
    readonly lossScale: number | null;
    readonly parameterCount: number;
    /** Null without a pipeline. */
    readonly pipeline: PipelineMetrics | null;
    /** From the plan, and what devices really held. */
    readonly memory: MemoryFigures & { readonly measuredBytes: number; readonly measuredHostBytes: number };
  };
  /** Of each worker, where `run.profile` asked for it. */
  readonly profiles: readonly StepProfile[] | null;
}

/** Orders in flight: while the ranks compute one step, the next is already in their queues. */
const STEPS_IN_FLIGHT = 2;
/** A profile leaves the first steps of an attempt out, as far as there are more, and takes the mean of the next few. */
const PROFILE_WARM_UP_STEPS = 3;
const PROFILE_STEPS = 5;

/** What attempts share and change. */
interface Progress {
  losses: number[];
  checkpoint: string | null;
  failures: number;
  measuredBytes: number;
  measuredHostBytes: number;
  parameterCount: number;
  profiles: readonly StepProfile[] | null;
  scaler: ScalerState;
  /** Of the workers that there are, or were last. */
  share: Share | null;
  bubble: BubbleMeter;
  readonly startedMs: number;
}

export class Trainer {
  readonly #settings: TrainerSettings;
  readonly #reporter = new RunReporter();

  /** Checks the options; throws {@link ConfigError} naming the path of the first wrong one. */
  constructor(options: TrainerOptions) {
    this.#settings = checkTrainerOptions(options);
  }

  /**
   * Trains to the end and returns the losses and the model. Workers that die are replaced and training goes on from the last
   * checkpoint, up to `run.failure.maxFailures` times; then it rejects with {@link TrainingError}. A loss that is not finite
   * is an {@link EngineError} naming the step, and is not retried.
   */
  async fit(options: FitOptions = {}): Promise<TrainingResult> {
    const emit = options.onProgress ?? (() => {});
    const prepared = await prepare(this.#settings, emit);
    const progress: Progress = {
      losses: [],
      checkpoint: null,
      failures: 0,
      measuredBytes: 0,
      measuredHostBytes: 0,
      parameterCount: 0,
      profiles: null,
      scaler: startScaler(prepared.precision.lossScaling),
      share: null,
      bubble: new BubbleMeter(),
      startedMs: performance.now(),
    };
    try {
      for (;;) {
        try {
          await this.#attempt(prepared, progress, emit, options.signal);
          break;
        } catch (error) {
          await this.#afterFailure(error, prepared, progress, emit, options.signal);
        }
      }
    } catch (error) {
      const state = options.signal?.aborted ? 'STOPPED' : 'FAILED';
      this.#report(prepared, progress, state, error instanceof Error ? error.message : String(error));
      await this.#reporter.flush();
      throw error;
    }
    this.#report(prepared, progress, 'SUCCEEDED');
    await this.#reporter.flush();
    const evaluation = (await prepared.evaluate?.(join(prepared.runPath, 'model'), progress.share!.workers)) ?? null;
    return { ...this.#result(prepared, progress), evaluation };
  }

  /** One try with new workers, from the newest checkpoint to the end. */
  async #attempt(
    prepared: Prepared,
    progress: Progress,
    emit: (event: TrainingEvent) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { runPath, totalSteps } = prepared;
    const isPatient = isElastic(this.#settings.scaling.workers) && progress.failures > 0;
    await using group = await RankGroup.start(this.#settings.scaling, prepared.counts, isPatient, signal);
    let onAbort = (): void => {};
    const stopped = new Promise<never>((_resolve, reject) => {
      onAbort = () => reject(signal?.reason);
    });
    stopped.catch(() => {}); // raced below; nobody else asks
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort(); // while the workers started
    const orStopped = <T>(work: PromiseLike<T>): Promise<T> => Promise.race([work, stopped, group.lost]);
    try {
      const { plan, estimate, workers } = this.#shareOut(prepared, progress, group);
      await orStopped(group.join(plan.mesh, groupName(prepared, progress)));
      if (group.hostReason !== null)
        emit({ kind: 'notes', notes: [`GPUs exchange through the host: ${group.hostReason}`] });
      const ready = await orStopped(group.build(plan));
      progress.parameterCount = ready.parameterCount;
      const from = await orStopped(this.#restore(prepared, progress, group));
      emit({
        kind: 'started',
        failures: progress.failures,
        parameterCount: ready.parameterCount,
        estimateBytes: estimate.totalBytes,
        workers,
        group: group.kind,
        fromStep: from,
        totalSteps,
      });
      await orStopped(this.#steps(prepared, progress, group, from, emit, signal));
      await orStopped(group.all((rank) => rank.exportModel(join(runPath, 'model'))));
      await prepared.tokenizer.save(join(runPath, 'model'));
      if (prepared.isAdapter) await orStopped(group.all((rank) => rank.exportAdapter(join(runPath, 'adapter'))));
      await group.close();
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** How the ranks of a group share the run, from here on. */
  #shareOut(prepared: Prepared, progress: Progress, group: RankGroup): Share {
    const share = prepared.share(group.ranks.length);
    progress.share = share;
    progress.bubble = new BubbleMeter();
    return share;
  }

  /** Loads the newest checkpoint on all ranks; the first step to do. */
  async #restore(prepared: Prepared, progress: Progress, group: RankGroup): Promise<number> {
    const found = await newest(prepared.runPath);
    if (found === null) {
      progress.losses = [];
      progress.scaler = startScaler(prepared.precision.lossScaling);
      return 0;
    }
    if (found.index.fingerprint !== prepared.fingerprint)
      throw new ConfigError(
        'trainer.run.name',
        'a run with the same model, data, sizes, optimizer and seed',
        prepared.name,
        `The checkpoint ${found.path} is of another run; choose another name`,
      );
    await group.all((rank) => rank.load(found.path));
    progress.losses = [...found.index.losses];
    progress.scaler = found.index.scaler;
    progress.checkpoint = found.path;
    return found.index.step;
  }

  /** Steps [from, totalSteps) with checkpoints between them. */
  async #steps(
    prepared: Prepared,
    progress: Progress,
    group: RankGroup,
    from: number,
    emit: (event: TrainingEvent) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { totalSteps } = prepared;
    const { checkpoint, samples = null } = this.#settings.run;
    const { everySteps } = checkpoint;
    const pace = new Pace();
    const inFlight: { readonly step: number; readonly reports: Promise<StepReport[]> }[] = [];
    const settleOldest = async (): Promise<void> => {
      const { step, reports } = inFlight.shift()!;
      this.#settle(prepared, progress, step, await reports, pace, emit);
    };
    for (let step = from; step < totalSteps; step += 1) {
      signal?.throwIfAborted(); // who stopped the run is told already, and takes what is written for its end
      const reports = this.#order(prepared, progress, group, step, from);
      reports.catch(() => {}); // awaited by settleOldest, unless an earlier step failed first
      inFlight.push({ step, reports });
      const isCheckpoint = everySteps > 0 && ((step + 1) % everySteps === 0 || step + 1 === totalSteps);
      const isSampled = samples !== null && (step + 1) % samples.everySteps === 0;
      while (inFlight.length >= (isCheckpoint || isSampled ? 1 : STEPS_IN_FLIGHT)) await settleOldest();
      if (isSampled)
        emit({
          kind: 'samples',
          step: step + 1,
          samples: await takeSamples(group, progress.share!.plan.mesh, prepared.tokenizer, samples),
        });
      if (isCheckpoint) await this.#checkpoint(prepared, progress, group, step + 1, emit);
      if (isCheckpoint && step + 1 < totalSteps) await this.#grow(prepared, progress, group, step + 1, emit);
    }
    while (inFlight.length > 0) await settleOldest();
  }

  /** Sends one step to all ranks, with their micro-batches as objects made by data tasks. */
  #order(
    { feed, totalSteps }: Prepared,
    progress: Progress,
    group: RankGroup,
    step: number,
    from: number,
  ): Promise<StepReport[]> {
    const { batch, plan } = progress.share!;
    const order = {
      profile: this.#settings.run.profile ? profileOrder(step, from, totalSteps) : null,
      step,
      labelCount: feed.labelCount(step, batch),
    };
    const { mesh } = plan;
    return group.all((rank, index) =>
      rank.step(order, feed.microBatches(step, coordinatesOf(mesh, index).data, mesh.data, batch)),
    );
  }

  #settle(
    prepared: Prepared,
    progress: Progress,
    step: number,
    reports: readonly StepReport[],
    pace: Pace,
    emit: (event: TrainingEvent) => void,
  ): void {
    const { plan, estimate } = progress.share!;
    const { mesh } = plan;
    // The ranks of a tensor group all have the loss of their rows.
    const loss = reports.reduce(
      (sum, report, rank) => (coordinatesOf(mesh, rank).tensor === 0 ? sum + report.loss : sum),
      0,
    );
    const { gradientNorm, learningRate: rate, isSkipped, scaler } = reports[0]!;
    if (!isSound(prepared.precision.dtype, loss, isSkipped))
      throw this.#notFinite(prepared, progress.share!, step, loss, reports);
    progress.losses[step] = loss;
    progress.scaler = scaler;
    const profiles = reports.flatMap(({ profile }) => profile ?? []);
    if (profiles.length > 0) progress.profiles = profiles;
    progress.bubble.add(reports.map(({ pipeline }) => pipeline));
    progress.measuredBytes = Math.max(progress.measuredBytes, ...reports.map((report) => report.deviceBytes));
    progress.measuredHostBytes = Math.max(progress.measuredHostBytes, ...reports.map((report) => report.hostBytes));
    const secondsPerStep = pace.tick(performance.now());
    const { trainBatch } = prepared;
    const event: StepEvent = {
      kind: 'step',
      step: step + 1,
      totalSteps: prepared.totalSteps,
      epoch: ((step + 1) * trainBatch) / prepared.feed.facts.rowsPerEpoch,
      loss,
      gradientNorm,
      lossScale: scaler.lossScale?.scale ?? null,
      skippedSteps: scaler.skippedSteps,
      learningRate: rate,
      tokensPerSecond: secondsPerStep === 0 ? 0 : (trainBatch * this.#settings.recipe.sequenceLength) / secondsPerStep,
      etaSeconds: secondsPerStep * (prepared.totalSteps - step - 1),
      memoryBytes: progress.measuredBytes,
      estimateBytes: estimate.totalBytes,
    };
    emit(event);
    this.#reporter.report(stepReport(event, this.#identity(prepared, progress)));
  }

  /** Names the step, the record of the first token whose loss is not finite, and the op that made the number. */
  #notFinite(
    { feed }: Prepared,
    { batch, plan: { mesh } }: Share,
    step: number,
    loss: number,
    reports: readonly StepReport[],
  ): EngineError {
    const rank = Math.max(
      0,
      reports.findIndex(({ fault }) => fault !== null),
    );
    const { fault, gradientNorm } = reports[rank]!;
    const { sequenceLength } = this.#settings.recipe;
    const { microBatch, trainBatch } = batch;
    let where = `rows ${step * trainBatch} to ${(step + 1) * trainBatch - 1}`;
    const { data, sequence } = coordinatesOf(mesh, rank);
    if (fault && fault.token >= 0) {
      const token = fault.token + (sequence * microBatch * sequenceLength) / mesh.sequence;
      const row = Math.floor(token / sequenceLength);
      const index = step * trainBatch + (fault.micro * mesh.data + data) * microBatch + row;
      where = `${feed.placeOf(index, token % sequenceLength) ?? 'padding'} (row ${index})`;
    }
    const cause = fault?.cause ? `, first in ${fault.cause}` : '';
    return new EngineError({
      detail: `step ${step + 1}: the loss is ${loss} and the gradient's norm ${gradientNorm}, at ${where}${cause}. Lower the learning rate, or look at the record`,
      rank,
    });
  }

  async #checkpoint(
    prepared: Prepared,
    progress: Progress,
    group: RankGroup,
    step: number,
    emit: (event: TrainingEvent) => void,
  ): Promise<void> {
    const path = checkpointPath(prepared.runPath, step);
    const files = (await group.all((rank) => rank.save(path))).filter((file) => file !== null);
    if (prepared.isAdapter) await group.all((rank) => rank.exportAdapter(join(path, 'adapter')));
    const index = {
      format: 1,
      step,
      files,
      fingerprint: prepared.fingerprint,
      losses: progress.losses,
      scaler: progress.scaler,
    } as const;
    progress.checkpoint = await commit(prepared.runPath, index, this.#settings.run.checkpoint.numToKeep);
    emit({ kind: 'checkpoint', step, path });
  }

  /** Takes in more workers where there is room for them: the state of the job goes on in memory, and the next step is shared by all. */
  async #grow(
    prepared: Prepared,
    progress: Progress,
    group: RankGroup,
    step: number,
    emit: (event: TrainingEvent) => void,
  ): Promise<void> {
    const holders = group.ranks;
    const more = prepared.counts.filter((count) => count > holders.length);
    if (more.length === 0 || !(await group.grow(more))) return;
    const { plan, workers } = this.#shareOut(prepared, progress, group);
    await group.reshape(holders, plan, { step, scaler: progress.scaler }, groupName(prepared, progress));
    emit({ kind: 'grown', step, workers, group: group.kind });
  }

  /** Returns if the run may try again; throws what ends it otherwise. */
  async #afterFailure(
    error: unknown,
    prepared: Prepared,
    progress: Progress,
    emit: (event: TrainingEvent) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    // What the rank gave up for is the user's to see as it is.
    if (error instanceof TaskError && error.cause instanceof TrainingError) throw error.cause;
    if (signal?.aborted || !isWorthRetrying(error)) throw error;
    progress.failures += 1;
    const { maxFailures } = this.#settings.run.failure;
    emit({ kind: 'failed', failures: progress.failures, maxFailures, error });
    const message = error instanceof Error ? error.message : String(error);
    if (maxFailures >= 0 && progress.failures > maxFailures)
      throw new TrainingError(
        {
          detail: `${prepared.name} failed ${progress.failures} time${progress.failures === 1 ? '' : 's'}, maxFailures is ${maxFailures}: ${message}`,
        },
        { cause: error },
      );
    this.#report(prepared, progress, 'RESTARTING', message);
    await prepared.feed.restore();
  }

  #identity(prepared: Prepared, progress: Progress) {
    const workers = progress.share?.workers ?? prepared.counts[0]!;
    return { runId: prepared.runId, name: prepared.name, workers, restarts: progress.failures };
  }

  #report(
    prepared: Prepared,
    progress: Progress,
    state: 'RESTARTING' | 'SUCCEEDED' | 'FAILED' | 'STOPPED',
    message?: string,
  ): void {
    const { length } = progress.losses;
    const loss = progress.losses[length - 1];
    this.#reporter.report({
      ...this.#identity(prepared, progress),
      state,
      step: length,
      totalSteps: prepared.totalSteps,
      ...(loss === undefined || !Number.isFinite(loss) ? {} : { loss }),
      ...(message === undefined ? {} : { message: message.slice(0, 4000) }),
    });
  }

  #result(prepared: Prepared, progress: Progress): Omit<TrainingResult, 'evaluation'> {
    const seconds = (performance.now() - progress.startedMs) / 1000;
    const steps = progress.losses.length;
    const { trainBatch } = prepared;
    const { plan, batch, estimate } = progress.share!;
    return {
      runId: prepared.runId,
      losses: progress.losses,
      checkpoint: progress.checkpoint,
      model: join(prepared.runPath, 'model'),
      adapter: prepared.isAdapter ? join(prepared.runPath, 'adapter') : null,
      metrics: {
        steps,
        epochs: (steps * trainBatch) / prepared.feed.facts.rowsPerEpoch,
        seconds,
        tokensPerSecond: (steps * trainBatch * this.#settings.recipe.sequenceLength) / seconds,
        failures: progress.failures,
        skippedSteps: progress.scaler.skippedSteps,
        lossScale: progress.scaler.lossScale?.scale ?? null,
        parameterCount: progress.parameterCount,
        pipeline: progress.bubble.result(plan.mesh, batch.accumulation),
        memory: {
          ...estimate,
          measuredBytes: progress.measuredBytes,
          measuredHostBytes: progress.measuredHostBytes,
        },
      },
      profiles: progress.profiles,
    };
  }
}

/** What the groups of the ranks are called: a name of its own each time that they join. */
function groupName({ runId }: Prepared, { failures, share }: Progress): string {
  return `raylite-${runId}-${failures}-${share!.workers}-${process.pid}`;
}

/** What of a profile step `step` of the steps [from, totalSteps) is. */
function profileOrder(step: number, from: number, totalSteps: number): StepOrder['profile'] {
  const first = Math.min(from + PROFILE_WARM_UP_STEPS, totalSteps - 1);
  const steps = Math.min(PROFILE_STEPS, totalSteps - first);
  if (step < first || step >= first + steps) return null;
  return { steps, isFirst: step === first, isLast: step === first + steps - 1 };
}

/** Whether a step may stand: one in 16 bits may have been skipped; in bf16, which has the range of f32, not for its loss. */
function isSound(dtype: FloatType, loss: number, isSkipped: boolean): boolean {
  if (dtype === 'f16' && isSkipped) return true;
  return Number.isFinite(loss) && (dtype === 'bf16' || !isSkipped);
}
