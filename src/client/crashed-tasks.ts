// Tasks whose worker ended before it answered: which run again, and when. How a worker ended is news of its node, by way of the head.
//
//   (broken) ─take→ resting ─again→ (queued)      its worker was ended by the watch over its node's memory: after a pause that
//                      │                          doubles, out of a budget of its own; else at once, out of `maxRetries`
//                      └─remove | close | no retries are left→ (failed)
import { setTimeout as sleep } from 'node:timers/promises';
import { numberSetting, OutOfMemoryError } from '../common/index.js';
import { errorOf, type wire } from '../protocol/index.js';
import type { Invocation } from './invocation.js';

/** A task that may run again waits no longer for the news: that of a node that is lost takes long. */
const NEWS_MS_MAX = 500;
const PAUSE_MS_MAX = 60_000;

/** A worker whose stream broke. */
export interface EndedWorker {
  /** How it ended; null: nobody knows. Never rejects. */
  readonly end: Promise<wire.WorkerEnd.$Properties | null>;
  /** Why a task failed that was lost with it; `detail`: what its stream said. Never rejects. */
  failureOf(invocation: Invocation, detail: string): Promise<Error>;
}

export class CrashedTasks {
  readonly #again: (invocation: Invocation) => void;
  readonly #resting = new Set<Invocation>();
  /** How often a task's worker was ended for its node's memory. */
  readonly #memoryEnds = new WeakMap<Invocation, number>();
  /** -1: any number of times. As in Ray (task_oom_retries, task_oom_retry_delay_base_ms). */
  readonly #memoryRetriesMax = numberSetting('RAYLITE_TASK_OOM_RETRIES', -1, { min: -1 });
  readonly #pauseMs = numberSetting('RAYLITE_TASK_OOM_RETRY_DELAY_BASE_MS', 1000);
  #hasTold = false;

  /** @param again runs a task once more */
  constructor(again: (invocation: Invocation) => void) {
    this.#again = again;
  }

  /** Rejects never. */
  async take(invocation: Invocation, worker: EndedWorker, detail: string): Promise<void> {
    this.#resting.add(invocation);
    invocation.carrier = invocation.sender; // who cancels it comes here
    const end = await Promise.race([worker.end, sleep(NEWS_MS_MAX, 'late' as const, { ref: false })]);
    if (!this.#resting.has(invocation)) return;
    const shortage = end === 'late' ? null : shortageOf(end);
    if (shortage) return await this.#endedForMemory(invocation, shortage);
    const left = invocation.retriesLeft;
    if (!invocation.mayGoAgain()) return await this.#fail(invocation, worker.failureOf(invocation, detail));
    if (end === 'late') worker.end.then((news) => this.#amend(invocation, left, news)).catch(() => {}); // never rejects
    this.#resting.delete(invocation);
    this.#again(invocation);
  }

  /** Whether it rests here; it is taken out. */
  remove(invocation: Invocation): boolean {
    return this.#resting.delete(invocation);
  }

  close(left: Error): void {
    const resting = [...this.#resting];
    this.#resting.clear();
    for (const invocation of resting) invocation.fail(left);
  }

  async #endedForMemory(invocation: Invocation, error: OutOfMemoryError): Promise<void> {
    const ends = this.#count(invocation);
    const isAllowed = this.#memoryRetriesMax === -1 || ends <= this.#memoryRetriesMax;
    if (invocation.shape.retries === 0 || !isAllowed) {
      this.#resting.delete(invocation);
      invocation.fail(error);
      return;
    }
    const pauseMs = Math.min(this.#pauseMs * 2 ** (ends - 1), PAUSE_MS_MAX);
    if (!this.#hasTold) {
      const { nodeId } = error;
      const text = `task ${invocation.name} was ended since memory is short on node ${nodeId}; it runs again in ${pauseMs / 1000} s`;
      process.emitWarning(text, { code: 'RAYLITE_OUT_OF_MEMORY' });
    }
    this.#hasTold = true;
    await sleep(pauseMs, undefined, { ref: false });
    if (this.#resting.delete(invocation)) this.#again(invocation);
  }

  /** It runs again by now, and a retry was taken that was none. */
  #amend(invocation: Invocation, left: number, end: wire.WorkerEnd.$Properties | null): void {
    if (shortageOf(end) === null) return;
    this.#count(invocation);
    if (left > 0) invocation.retriesLeft += 1;
  }

  #count(invocation: Invocation): number {
    const ends = (this.#memoryEnds.get(invocation) ?? 0) + 1;
    this.#memoryEnds.set(invocation, ends);
    return ends;
  }

  async #fail(invocation: Invocation, error: Promise<Error>): Promise<void> {
    const failure = await error;
    if (this.#resting.delete(invocation)) invocation.fail(failure);
  }
}

/** Set where the watch over a node's memory ended the worker. */
function shortageOf(end: wire.WorkerEnd.$Properties | null): OutOfMemoryError | null {
  const cause = end?.cause ? errorOf(end.cause) : null;
  return cause instanceof OutOfMemoryError && cause.endedBy === 'watch' ? cause : null;
}
