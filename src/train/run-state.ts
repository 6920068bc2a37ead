// What the attempts of a run share and change: how far it is, what was measured on the way, and what comes of it.
import { join } from 'node:path';
import type { RunId } from '../common/index.js';
import type { MemoryFigures, StepProfile } from '../engine/index.js';
import { BubbleMeter, type PipelineMetrics } from './bubble.js';
import type { CheckpointIndex } from './checkpoint.js';
import { bestOf, type HeldOutLoss } from './held-out.js';
import { lossOverRanks } from './loss-over-ranks.js';
import { isSound, notFinite } from './not-finite.js';
import type { Prepared, Share } from './prepare.js';
import type { StepEvent } from './progress.js';
import type { StepReport } from './rank-messages.js';
import type { Scores } from './recipe.js';
import { type ScalerState, startScaler } from './scaler.js';

/** What a run came to. */
export interface TrainingResult {
  readonly runId: RunId;
  /** Mean loss over trained tokens, of every step from the first. */
  readonly losses: readonly number[];
  /** Of what the recipe held out, where `run.evaluation` asked for it. */
  readonly heldOutLosses: readonly HeldOutLoss[];
  /** The lowest of these. Under `keepBest` the one that `model` and `adapter` are of. */
  readonly best: HeldOutLoss | null;
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

export class RunState {
  failures = 0;
  parameterCount = 0;
  readonly #prepared: Prepared;
  readonly #sequenceLength: number;
  readonly #startedMs = performance.now();
  #losses: number[] = [];
  #heldOutLosses: HeldOutLoss[] = [];
  #checkpoint: string | null = null;
  #profiles: readonly StepProfile[] | null = null;
  #scaler: ScalerState;
  #share: Share | null = null;
  #shareCount = 0;
  #sharedAtMs = 0;
  #bubble = new BubbleMeter();
  #measuredBytes = 0;
  #measuredHostBytes = 0;

  constructor(prepared: Prepared, sequenceLength: number) {
    this.#prepared = prepared;
    this.#sequenceLength = sequenceLength;
    this.#scaler = startScaler(prepared.precision.lossScaling);
  }

  /** How the workers that there are, or were last, share the run. */
  get share(): Share {
    return this.#share!;
  }
  get losses(): readonly number[] {
    return this.#losses;
  }
  get heldOutLosses(): readonly HeldOutLoss[] {
    return this.#heldOutLosses;
  }
  get scaler(): ScalerState {
    return this.#scaler;
  }
  /** Who a report is about. */
  get identity() {
    const { runId, name, counts } = this.#prepared;
    return { runId, name, workers: this.#share?.workers ?? counts[0]!, restarts: this.failures };
  }
  /** What the groups of the ranks are called: a name of its own each time that they join. */
  get groupName(): string {
    return `raylite-${this.#prepared.runId}-${this.failures}-${this.#shareCount}-${process.pid}`;
  }

  /** How long the workers that there are have shared the run. */
  get sharedSeconds(): number {
    return (performance.now() - this.#sharedAtMs) / 1000;
  }

  /** How so many workers share the run, from here on. */
  shareOut(workers: number): Share {
    this.#share = this.#prepared.share(workers);
    this.#shareCount += 1;
    this.#sharedAtMs = performance.now();
    this.#bubble = new BubbleMeter();
    return this.#share;
  }

  /** Back to the first step. */
  startOver(): void {
    this.#losses = [];
    this.#heldOutLosses = [];
    this.#scaler = startScaler(this.#prepared.precision.lossScaling);
  }
  /** On from a checkpoint. */
  goOn({ losses, heldOutLosses, scaler }: CheckpointIndex, path: string): void {
    this.#losses = [...losses];
    this.#heldOutLosses = [...heldOutLosses];
    this.#scaler = scaler;
    this.#checkpoint = path;
  }
  saved(path: string): void {
    this.#checkpoint = path;
  }

  /** Counts a step that all ranks have done; `secondsPerStep` of late, 0 where it is not known. Throws EngineError where it may not stand. */
  settle(step: number, reports: readonly StepReport[], secondsPerStep: number): StepEvent {
    const { totalSteps, trainBatch, feed, precision } = this.#prepared;
    const { plan, estimate } = this.share;
    const loss = lossOverRanks(
      plan.mesh,
      reports.map((report) => report.loss),
    );
    const { gradientNorm, learningRate, isSkipped, scaler } = reports[0]!;
    if (!isSound(precision.dtype, loss, isSkipped))
      throw notFinite(feed, this.share, this.#sequenceLength, step, loss, reports);
    this.#losses[step] = loss;
    this.#scaler = scaler;
    const profiles = reports.flatMap(({ profile }) => profile ?? []);
    if (profiles.length > 0) this.#profiles = profiles;
    this.#bubble.add(reports.map(({ pipeline }) => pipeline));
    this.#measuredBytes = Math.max(this.#measuredBytes, ...reports.map((report) => report.deviceBytes));
    this.#measuredHostBytes = Math.max(this.#measuredHostBytes, ...reports.map((report) => report.hostBytes));
    return {
      kind: 'step',
      step: step + 1,
      totalSteps,
      epoch: ((step + 1) * trainBatch) / feed.facts.rowsPerEpoch,
      loss,
      gradientNorm,
      lossScale: scaler.lossScale?.scale ?? null,
      skippedSteps: scaler.skippedSteps,
      learningRate,
      tokensPerSecond: secondsPerStep === 0 ? 0 : (trainBatch * this.#sequenceLength) / secondsPerStep,
      etaSeconds: secondsPerStep * (totalSteps - step - 1),
      memoryBytes: this.#measuredBytes,
      estimateBytes: estimate.totalBytes,
    };
  }

  /** Notes a measurement behind `step` steps; whether it is the best so far. */
  measured(step: number, loss: number): boolean {
    this.#heldOutLosses.push({ step, loss });
    return bestOf(this.#heldOutLosses)?.step === step;
  }

  /** What the run came to, once its steps are done. */
  result(): Omit<TrainingResult, 'evaluation'> {
    const { runId, runPath, isAdapter, trainBatch, feed } = this.#prepared;
    const { plan, batch, estimate } = this.share;
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const steps = this.#losses.length;
    return {
      runId,
      losses: this.#losses,
      heldOutLosses: this.#heldOutLosses,
      best: bestOf(this.#heldOutLosses),
      checkpoint: this.#checkpoint,
      model: join(runPath, 'model'),
      adapter: isAdapter ? join(runPath, 'adapter') : null,
      metrics: {
        steps,
        epochs: (steps * trainBatch) / feed.facts.rowsPerEpoch,
        seconds,
        tokensPerSecond: (steps * trainBatch * this.#sequenceLength) / seconds,
        failures: this.failures,
        skippedSteps: this.#scaler.skippedSteps,
        lossScale: this.#scaler.lossScale?.scale ?? null,
        parameterCount: this.parameterCount,
        pipeline: this.#bubble.result(plan.mesh, batch.accumulation),
        memory: { ...estimate, measuredBytes: this.#measuredBytes, measuredHostBytes: this.#measuredHostBytes },
      },
      profiles: this.#profiles,
    };
  }
}
