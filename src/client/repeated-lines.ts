// Lines that several workers write alike are shown once, then counted, as in Ray (python/ray/_private/ray_logging,
// LogDeduplicator). Words with digits in them do not count: they tell workers apart, not messages. Reads no clock.
import type { wire } from '../protocol/index.js';

export const REPEAT_WINDOW_MS = 5_000;
const REMEMBERED_MAX = 10_000;

/** Who wrote, and what of it is shown. */
export type Shown = Pick<wire.LogLines.$Properties, 'nodeId' | 'pid' | 'name' | 'isError' | 'host'> & {
  readonly lines: readonly string[];
};

interface Repeated {
  beganMs: number;
  count: number; // not shown since
  line: string;
  from: Shown;
  readonly writers: Set<string>;
}

export class RepeatedLines {
  readonly #recent = new Map<string, Repeated>(); // in the order of beganMs
  #hasExplained = false;
  #heldLines = 0;

  /** Whether lines are held back. */
  get isHolding(): boolean {
    return this.#heldLines > 0;
  }

  /** What is to be shown when `batch` comes at `nowMs`. */
  pass(batch: Shown, nowMs: number): readonly Shown[] {
    const fresh = batch.lines.filter((line) => this.#isFresh(line, batch, nowMs));
    const shown = fresh.length > 0 ? [{ ...batch, lines: fresh }] : [];
    return [...shown, ...this.due(nowMs)];
  }

  #isFresh(line: string, from: Shown, nowMs: number): boolean {
    const words = line.split(/\s+/).filter((word) => word !== '' && !/\d/.test(word));
    if (words.length === 0) return true; // numbers only: nothing says that they mean the same
    const key = `${from.isError ? 'E' : 'O'}${words.join(' ')}`;
    const writer = `${from.nodeId} ${from.pid}`;
    const known = this.#recent.get(key);
    if (!known) {
      if (this.#recent.size < REMEMBERED_MAX)
        this.#recent.set(key, { beganMs: nowMs, count: 0, line, from, writers: new Set([writer]) });
      return true;
    }
    known.writers.add(writer);
    if (known.writers.size === 1) return true; // what one worker says again is its own affair
    known.count += 1;
    this.#heldLines += 1;
    known.line = line;
    known.from = from;
    return false;
  }

  /** What has been held back for long enough. */
  due(nowMs: number): readonly Shown[] {
    const shown: Shown[] = [];
    for (const [key, repeated] of this.#recent) {
      if (nowMs - repeated.beganMs < REPEAT_WINDOW_MS) break;
      this.#recent.delete(key);
      shown.push(...this.#told(repeated));
      if (repeated.count > 1) this.#recent.set(key, { ...repeated, beganMs: nowMs, count: 0 });
    }
    return shown;
  }

  /** All that is held back. */
  rest(): readonly Shown[] {
    const shown = [...this.#recent.values()].flatMap((repeated) => this.#told(repeated));
    this.#recent.clear();
    return shown;
  }

  #told({ count, line, from }: Repeated): readonly Shown[] {
    if (count === 0) return [];
    this.#heldLines -= count;
    if (count === 1) return [{ ...from, lines: [line] }];
    const hint = this.#hasExplained ? '' : ' (RAYLITE_DEDUP_LOGS=0 shows each)';
    this.#hasExplained = true;
    return [{ ...from, lines: [`${line} [repeated ${count}x across cluster]${hint}`] }];
  }
}
