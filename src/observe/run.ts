// Training runs as they are shown: the latest report, and the points of a curve.
import type { RunReport } from './report/schema.js';

export type { RunReport };
export type RunState = RunReport['state'];

/** One point of a loss curve. */
export interface RunPoint {
  readonly step: number;
  readonly loss: number | null;
  readonly evalLoss: number | null;
  readonly learningRate: number | null;
  readonly tokensPerSecond: number | null;
}

export const pointOf = (report: RunReport): RunPoint => ({
  step: report.step,
  loss: report.loss ?? null,
  evalLoss: report.evalLoss ?? null,
  learningRate: report.learningRate ?? null,
  tokensPerSecond: report.tokensPerSecond ?? null,
});
