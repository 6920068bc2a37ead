// Tells the head about a run, for the page and `raylite status`: at most a few times a second, never in the way of a step.
import { reportRun } from '../client/index.js';
import type { RunReport } from '../observe/index.js';

const INTERVAL_MS = 250;

export class RunReporter {
  #lastMs = Number.NEGATIVE_INFINITY;
  #sending: Promise<void> = Promise.resolve();

  /** Sends `report`, unless it is another step of a running run, with nothing measured and nothing to say, so soon after the last one. */
  report(report: RunReport): void {
    const nowMs = performance.now();
    const isMinor =
      report.state === 'RUNNING' &&
      report.step < report.totalSteps &&
      report.evalLoss === undefined &&
      report.message === undefined;
    if (isMinor && nowMs - this.#lastMs < INTERVAL_MS) return;
    this.#lastMs = nowMs;
    // Reports are for looking at: a head that is away for a moment must not end a run that does not need it.
    this.#sending = this.#sending.then(() => reportRun(report.runId, JSON.stringify(report))).catch(() => {});
  }

  /** Resolves when everything was sent. */
  flush(): Promise<void> {
    return this.#sending;
  }
}
