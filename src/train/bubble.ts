// How long the stages of a pipeline had nothing to do, over the steps of a run, beside what the schedule alone makes them wait.
import { bubbleShare, type Mesh, type PipelineTimes } from '../engine/index.js';

/** How a pipeline was shared out, and how much of a run its stages waited. */
export interface PipelineMetrics {
  readonly stages: number;
  /** Parts of the model on each stage. */
  readonly chunks: number;
  /** Micro-batches of a step. */
  readonly micros: number;
  /** Share of a step's forwards and backwards in which a stage waited, in the mean over stages. */
  readonly idleShare: number;
  /** The same where all parts take equally long: (p - 1) / (v m + p - 1). */
  readonly scheduledIdleShare: number;
}

/** Adds up what ranks report of each step; null without a pipeline. */
export class BubbleMeter {
  #busySeconds = 0;
  #seconds = 0;

  add(times: readonly (PipelineTimes | null)[]): void {
    const known = times.filter((each) => each !== null);
    if (known.length === 0) return;
    // A stage that is through waits for the others.
    this.#seconds += known.length * Math.max(...known.map(({ seconds }) => seconds));
    this.#busySeconds += known.reduce((sum, { busySeconds }) => sum + busySeconds, 0);
  }

  result({ pipeline: stages, chunks }: Mesh, micros: number): PipelineMetrics | null {
    if (stages === 1 || this.#seconds === 0) return null;
    const idleShare = 1 - this.#busySeconds / this.#seconds;
    return { stages, chunks, micros, idleShare, scheduledIdleShare: bubbleShare({ stages, chunks, micros }) };
  }
}
