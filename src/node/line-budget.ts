// How much of a worker's output goes to the driver: so much in a window of time; what is beyond it is counted. Reads no clock.

export interface LineLimits {
  readonly windowMs: number;
  readonly linesMax: number;
  readonly charsMax: number;
}

/** More than people read, less than delays what else the node tells the head. */
export const LINE_LIMITS: LineLimits = { windowMs: 5_000, linesMax: 10_000, charsMax: 8 * 1024 * 1024 };

export class LineBudget {
  readonly #limits: LineLimits;
  #beganMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #chars = 0;
  #dropped = 0;

  constructor(limits: LineLimits = LINE_LIMITS) {
    this.#limits = limits;
  }

  /** Whether a line of `chars` characters that comes at `nowMs` may pass. */
  take(chars: number, nowMs: number): boolean {
    const { windowMs, linesMax, charsMax } = this.#limits;
    if (nowMs - this.#beganMs >= windowMs) {
      this.#beganMs = nowMs;
      this.#lines = 0;
      this.#chars = 0;
    }
    if (this.#lines >= linesMax || this.#chars + chars > charsMax) {
      this.#dropped += 1;
      return false;
    }
    this.#lines += 1;
    this.#chars += chars;
    return true;
  }

  /** Milliseconds until lines pass again. */
  restMs(nowMs: number): number {
    return Math.max(0, this.#beganMs + this.#limits.windowMs - nowMs);
  }

  /** How many lines were dropped since this was last asked. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
