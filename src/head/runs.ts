// The training runs that were reported, each with its latest report and a bounded curve.
import { pointOf, type RunPoint, type RunReport } from '../observe/index.js';

/** Points kept of one curve: beyond it every other point goes, so that the whole run stays in view. */
export const RUN_POINTS_MAX = 2000;
export const RUNS_MAX = 200;

export interface RunRecord {
  latest: RunReport;
  points: RunPoint[];
  readonly startedAtMs: number;
  updatedAtMs: number;
}

export class Runs {
  readonly #runs = new Map<string, RunRecord>();
  /** Runs whose record changed since it was last written. */
  readonly changed = new Set<string>();

  report(report: RunReport, atMs: number): void {
    const run = this.#runs.get(report.runId) ?? { latest: report, points: [], startedAtMs: atMs, updatedAtMs: atMs };
    // A run that resumed from a checkpoint does some steps again: what it did before the failure is replaced.
    while (run.points.length > 0 && run.points.at(-1)!.step >= report.step) run.points.pop();
    if (report.loss !== undefined || report.evalLoss !== undefined) run.points.push(pointOf(report));
    if (run.points.length > RUN_POINTS_MAX) run.points = run.points.filter((_, index) => index % 2 === 1);
    // Figures that do not come with every step stay as they were.
    run.latest = { ...report, evalLoss: report.evalLoss ?? run.latest.evalLoss };
    run.updatedAtMs = atMs;
    this.#runs.set(report.runId, run);
    this.changed.add(report.runId);
  }

  get(runId: string): RunRecord | undefined {
    return this.#runs.get(runId);
  }

  /** Newest first. */
  list(): readonly RunRecord[] {
    return [...this.#runs.values()].sort((a, b) => b.startedAtMs - a.startedAtMs);
  }

  restore(runId: string, record: RunRecord): void {
    this.#runs.set(runId, record);
  }

  /** Drops the oldest runs beyond the limit and names them. */
  trim(): readonly string[] {
    const old = this.list().slice(RUNS_MAX);
    for (const run of old) this.#runs.delete(run.latest.runId);
    return old.map((run) => run.latest.runId);
  }
}
