// What a trainer reports about its run: one JSON object a report. Shown by the page, `raylite status` and /metrics.
import { z } from 'zod';

const amount = z.number().nonnegative();

/** All times in seconds, all sizes in bytes. Fields that are not known yet are left out. */
export const runReportSchema = z.object({
  runId: z.string().min(1).max(100),
  name: z.string().max(200),
  state: z.enum(['STARTING', 'RUNNING', 'RESTARTING', 'SUCCEEDED', 'FAILED', 'STOPPED']),
  step: amount.int(),
  totalSteps: amount.int(),
  loss: z.number().optional(), // mean of this step, nats per token
  evalLoss: z.number().optional(),
  learningRate: amount.optional(),
  gradientNorm: amount.optional(),
  tokensPerSecond: amount.optional(),
  etaSeconds: amount.optional(),
  epoch: amount.optional(),
  memoryBytes: amount.optional(), // of the fullest worker
  estimateBytes: amount.optional(), // what the planner said before the run
  workers: amount.int().optional(),
  restarts: amount.int().optional(),
  jobId: z.string().max(100).optional(),
  message: z.string().max(4000).optional(), // why it failed or restarts
});

export type RunReport = z.infer<typeof runReportSchema>;
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
