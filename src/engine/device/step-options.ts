// What one step of training is given, and what it gives.
import type { PipelineTimes } from './pipeline-runner.js';

/** What a micro-batch counts, and its place in the step. */
export interface MicroOptions {
  /** What each labelled row counts. */
  readonly scale: number;
  /** Starts a step: its gradients overwrite those of the step before. */
  readonly isFirst: boolean;
  /** For what is random: the number of the step, from 0. Default: the number of updates so far. */
  readonly step?: number;
  /** For f16 alone; default 1. */
  readonly lossScale?: number;
}

/** The losses of a micro-batch. */
export interface MicroResult {
  /** scale * sum of the losses of the labelled rows of this micro-batch. */
  readonly loss: number;
  /** Loss of each row, without weights; cross-entropy is 0 where the label is -100. */
  readonly tokenLosses: Float32Array;
}

/** What all micro-batches of a step have in common. */
export interface MicrosOptions extends Omit<MicroOptions, 'isFirst'> {
  /** Awaited behind each micro-batch, before the next is given to the programs; on a pipeline behind all of them. */
  readonly afterMicro?: (micro: number, result: MicroResult) => Promise<void>;
}

/** What the micro-batches of a step came to. */
export interface MicrosResult {
  /** Of each micro-batch; of a pipeline on its last stage, which alone sees losses (elsewhere 0 and none). */
  readonly results: readonly MicroResult[];
  /** Null without a pipeline. */
  readonly pipeline: PipelineTimes | null;
}

/** What the end of a step takes from its schedule. */
export interface UpdateOptions {
  readonly lr: number;
  /** Counts from 1, over the steps that were not skipped. */
  readonly step: number;
  /** Of an optimiser whose momentum is scheduled. */
  readonly beta1?: number | undefined;
  readonly lossScale?: number;
}

/** What an update found, and whether it changed anything. */
export interface UpdateResult {
  readonly gradientNorm: number;
  /** The gradients were not finite: parameters and state are as before. */
  readonly isSkipped: boolean;
}
