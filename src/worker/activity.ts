// What a worker has run and runs, told to its agent soon after: what `raylite timeline`, `top` and `list tasks` show. Of very many
// calls only the first of each second are noted and the rest counted, so that a short call costs little more than a comparison.
import type { wire } from '../protocol/index.js';

/** Calls that are noted in one second. */
const CALLS_MAX = 1_000;
const WINDOW_MS = 1_000;
const TELL_MS = 100;
/** Names of running calls that are told. */
const RUNNING_MAX = 20;
const UNNOTED = -1;

export class Activity {
  readonly #tell: (activity: wire.Activity.$Properties) => void;
  #calls: wire.CallRecord.$Properties[] = [];
  readonly #running = new Map<number, { readonly name: string; readonly startMs: number }>();
  #lastId = 0;
  #left = CALLS_MAX;
  #windowEndMs = 0;
  #omitted = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(tell: (activity: wire.Activity.$Properties) => void) {
    this.#tell = tell;
  }

  /** A call begins; the number is for its end. */
  begin(name: string): number {
    const nowMs = performance.now();
    if (nowMs >= this.#windowEndMs) {
      this.#windowEndMs = nowMs + WINDOW_MS;
      this.#left = CALLS_MAX;
    }
    if (this.#left === 0) {
      this.#omitted += 1;
      return UNNOTED;
    }
    this.#left -= 1;
    const id = ++this.#lastId;
    this.#running.set(id, { name, startMs: performance.timeOrigin + nowMs });
    this.#timer ??= setTimeout(this.flush, TELL_MS).unref();
    return id;
  }

  end(id: number, isFailed: boolean): void {
    if (id === UNNOTED) return;
    const call = this.#running.get(id);
    if (!call) return;
    this.#running.delete(id);
    this.#calls.push({ ...call, endMs: performance.timeOrigin + performance.now(), isFailed });
    this.#timer ??= setTimeout(this.flush, TELL_MS).unref();
  }

  /** Tells what has not been told. */
  readonly flush = (): void => {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const running = [...this.#running.values()].slice(0, RUNNING_MAX);
    this.#tell({ calls: this.#calls, running, omittedCount: this.#omitted });
    this.#calls = [];
    this.#omitted = 0;
  };
}
