// What a run tells while it runs: events for a bar or a log, and reports for the page of the head.
import type { RunReport } from '../observe/index.js';
import type { FeedFacts } from './feed.js';
import type { GroupKind } from './rank-group.js';
import type { LateNews } from './rank-messages.js';
import type { Sample } from './samples.js';

/** What a run tells while it runs, in order. */
export type TrainingEvent =
  | { readonly kind: 'data'; readonly records: number; readonly skippedRecords: number; readonly facts: FeedFacts }
  /** Keys of the ds_config that change nothing, and why. */
  | { readonly kind: 'notes'; readonly notes: readonly string[] }
  | {
      readonly kind: 'started';
      /** 0 for the first attempt. */
      readonly failures: number;
      readonly parameterCount: number;
      readonly estimateBytes: number;
      readonly workers: number;
      readonly group: GroupKind;
      /** Steps already done by an earlier attempt or run. */
      readonly fromStep: number;
      readonly totalSteps: number;
    }
  | WaitEvent
  | StepEvent
  /** Where the time of the profiled steps went, as tables. */
  | { readonly kind: 'profile'; readonly step: number; readonly text: string }
  /** Ranks let others wait in an exchange, for 4 s so far; `message` names them, the exchange and the instruction. Or they have come. */
  | LateNews
  /** Behind a step there was room for more workers, who share the next ones: so many now. */
  | { readonly kind: 'grown'; readonly step: number; readonly workers: number; readonly group: GroupKind }
  /** Nodes are to leave: behind a step the run went on without the workers there, whose state moved in memory; so many there are now. */
  | { readonly kind: 'moved'; readonly step: number; readonly workers: number; readonly group: GroupKind }
  /** What the model says to the prompts of `run.samples` after a step. */
  | { readonly kind: 'samples'; readonly step: number; readonly samples: readonly Sample[] }
  | EvaluatedEvent
  | { readonly kind: 'checkpoint'; readonly step: number; readonly path: string }
  | { readonly kind: 'failed'; readonly failures: number; readonly maxFailures: number; readonly error: unknown };

/** There is no room for the workers of the run, and why; told again when that changes. */
export interface WaitEvent {
  readonly kind: 'waiting';
  readonly workers: number;
  readonly reason: string;
  /** How long it waits altogether before it gives up. Null: as long as it takes. */
  readonly seconds: number | null;
}

/** What the model loses behind a step on records that it does not learn from. */
export interface EvaluatedEvent {
  readonly kind: 'evaluated';
  readonly step: number;
  readonly loss: number;
  /** Of a language model: e to the loss. Null for others. */
  readonly perplexity: number | null;
  /** Of the run so far. */
  readonly isBest: boolean;
  readonly seconds: number;
}

/** One step of a run, over all its workers. */
export interface StepEvent {
  readonly kind: 'step';
  /** Steps done, this one included. */
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  /** Mean over the trained tokens of the step, nats. */
  readonly loss: number;
  readonly gradientNorm: number;
  /** Of the coming step, in a float16 run. */
  readonly lossScale: number | null;
  /** So far: steps whose gradients were not finite and changed nothing. */
  readonly skippedSteps: number;
  readonly learningRate: number;
  /** Rows × sequence length per second, over the last steps. */
  readonly tokensPerSecond: number;
  readonly etaSeconds: number;
  /** Of the fullest rank's device, and what the plan said before the run. */
  readonly memoryBytes: number;
  readonly estimateBytes: number;
}

/** Steps per second over the last `window` steps, without the first, which warms up. */
export class Pace {
  readonly #times: number[] = [];
  constructor(readonly window = 20) {}

  /** Seconds per step after a step that ended at `nowMs`. */
  tick(nowMs: number): number {
    this.#times.push(nowMs);
    if (this.#times.length > this.window + 1) this.#times.shift();
    const first = this.#times[0]!;
    return this.#times.length < 2 ? 0 : (nowMs - first) / 1000 / (this.#times.length - 1);
  }
}

/** The report of a step for the page and `raylite status`. */
export function stepReport(
  event: StepEvent,
  run: { readonly runId: string; readonly name: string; readonly workers: number; readonly restarts: number },
): RunReport {
  return {
    ...run,
    state: 'RUNNING',
    step: event.step,
    totalSteps: event.totalSteps,
    // A step that was skipped may have neither.
    ...(Number.isFinite(event.loss) ? { loss: event.loss } : {}),
    ...(Number.isFinite(event.gradientNorm) ? { gradientNorm: event.gradientNorm } : {}),
    ...(event.lossScale === null ? {} : { lossScale: event.lossScale }),
    ...(event.skippedSteps === 0 ? {} : { skippedSteps: event.skippedSteps }),
    learningRate: event.learningRate,
    tokensPerSecond: event.tokensPerSecond,
    etaSeconds: event.etaSeconds,
    epoch: event.epoch,
    memoryBytes: event.memoryBytes,
    estimateBytes: event.estimateBytes,
  };
}
