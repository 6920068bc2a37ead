// What a rank is asked and answers, beside its plan: values that travel between the driver and the ranks.
import type { NodeId } from '../common/index.js';
import type { MemoryFigures, Origin, PipelineTimes, StepProfile } from '../engine/index.js';
import type { CudaDescription } from '../native/index.js';
import type { ScalerState } from './scaler.js';

/** Where a rank is, how others reach it, how much memory its machine or container still has; and its GPU, if it is on one. */
export interface RankPlace {
  readonly nodeId: NodeId;
  /** Whether what it sends to other machines is to be encrypted. */
  readonly usesTls: boolean;
  readonly host: string;
  readonly availableBytes: number;
  readonly gpu: CudaDescription | null;
}

/** Ranks let the one that tells it wait, as `message` says; or do no longer. */
export interface LateNews {
  readonly kind: 'late' | 'came';
  readonly ranks: readonly number[];
  readonly message: string;
}

/** A rank has built its engine. */
export interface RankReady {
  readonly jobHash: string;
  readonly parameterCount: number;
  /** From the plan, before anything ran. */
  readonly estimate: MemoryFigures;
}

/** One step of the run; the same for all ranks. */
export interface StepOrder {
  /** Counts from 0. */
  readonly step: number;
  /** Trained tokens of the whole step, over all ranks and micro-batches. */
  readonly labelCount: number;
  /** Of the profiled steps of the run: how many there are, and whether this is the first or the last of them. */
  readonly profile: { readonly steps: number; readonly isFirst: boolean; readonly isLast: boolean } | null;
}

/** What a step came to on one rank. */
export interface StepReport {
  /** This rank's part of the step's loss: the parts of all ranks add up to the mean over trained tokens. */
  readonly loss: number;
  readonly gradientNorm: number;
  /** The first token of this rank whose loss is not a finite number: its micro-batch and row there, and what made it. */
  readonly fault: { readonly micro: number; readonly token: number; readonly cause: string | null } | null;
  /** Where a micro-batch takes several ranks: where the first number that is not finite appeared on this one. */
  readonly origin: Origin | null;
  readonly learningRate: number;
  /** The gradients were not finite, so that nothing was changed. */
  readonly isSkipped: boolean;
  /** After this step. */
  readonly scaler: ScalerState;
  readonly seconds: number;
  /** Of a stage's turns; null without a pipeline. */
  readonly pipeline: PipelineTimes | null;
  /** Behind the last profiled step. */
  readonly profile: StepProfile | null;
  /** What the device holds, and what is offloaded to the memory of the host. */
  readonly deviceBytes: number;
  readonly hostBytes: number;
  /** What the device has chosen since the last report, as lines for people. */
  readonly choices: readonly string[];
}
