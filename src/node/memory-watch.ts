// Looks at the memory of the node and, before the kernel ends whatever it likes, ends workers by a rule and with an error that
// says who, why and what else there was.
import { type NodeId, OutOfMemoryError } from '../common/index.js';
import type { Log } from '../observe/index.js';
import type { MemoryUsage } from './memory-usage.js';
import { chooseVictims, type MemoryUser } from './memory-victims.js';

/** So much below the threshold is aimed at: this share of the memory, this many bytes at most. As in Ray. */
const RELIEF_SHARE = 0.05;
const RELIEF_BYTES_MAX = 3 * 1024 ** 3;
/** Workers that the error names. */
const NAMED_MAX = 8;

export interface MemoryWatchOptions {
  readonly nodeId: NodeId;
  /** Share of the memory in use from which on workers are ended. */
  readonly threshold: number;
  readonly usage: () => MemoryUsage;
  readonly users: () => readonly MemoryUser[];
  /** Ends a worker; `error` is what becomes of what it runs. */
  readonly end: (user: MemoryUser, error: OutOfMemoryError) => void;
  readonly log: Log;
}

export class MemoryWatch implements Disposable {
  readonly #options: MemoryWatchOptions;
  readonly #timer: NodeJS.Timeout | null;
  #ending: ReadonlySet<string> = new Set();

  /** @param everyMs 0: never by itself */
  constructor(options: MemoryWatchOptions, everyMs: number) {
    this.#options = options;
    this.#timer = everyMs > 0 ? setInterval(() => this.look(), everyMs) : null;
    this.#timer?.unref();
  }

  /** One look. Nobody else is ended while one that was has not gone: its memory is not free yet. */
  look(): void {
    const { nodeId, threshold, usage, users, end, log } = this.#options;
    const { usedBytes, totalBytes } = usage();
    if (usedBytes < threshold * totalBytes) {
      this.#ending = new Set();
      return;
    }
    const all = users();
    if (all.some(({ workerId }) => this.#ending.has(workerId))) return;
    const relief = Math.min(RELIEF_SHARE * totalBytes, RELIEF_BYTES_MAX);
    const victims = chooseVictims(all, usedBytes - threshold * totalBytes + relief);
    this.#ending = new Set(victims.map(({ workerId }) => workerId));
    const largest = [...all].sort((a, b) => b.bytes - a.bytes).slice(0, NAMED_MAX);
    for (const victim of victims) {
      const { workerId, pid, name, bytes, isRetriable } = victim;
      const error = new OutOfMemoryError({
        nodeId,
        workerId,
        pid,
        name,
        workerBytes: bytes,
        usedBytes,
        totalBytes,
        detail: `more than ${Math.round(threshold * 1000) / 10} % is in use, and it ${isRetriable ? 'began last of those that may run again' : 'began last (none of the others may run again either)'}`,
        endedBy: 'watch',
        workers: largest.map((user) => ({
          workerId: user.workerId,
          pid: user.pid,
          name: user.name,
          bytes: user.bytes,
        })),
      });
      log.warn('a worker is ended because memory is short', { error });
      end(victim, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#timer) clearInterval(this.#timer);
  }
}
