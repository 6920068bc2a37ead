// What a trainer reports about its run: one JSON object a report. Shown by the page, `raylite status` and /metrics.
import { z } from 'zod';
import { ConfigError } from '../../common/index.js';

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
  lossScale: amount.optional(), // of a float16 run
  skippedSteps: amount.int().optional(), // whose gradients were not finite
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

/** A report as a trainer sent it. Throws {@link ConfigError} naming the field that is wrong. */
export function readRunReport(json: string): RunReport {
  const parsed = runReportSchema.safeParse(parse(json));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new ConfigError(`run.${issue?.path.join('.') ?? ''}`, 'a run report', issue?.message);
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
