// Gives this worker's CPUs back to the cluster while everything it runs waits for objects: the task that makes such an
// object may need them. Taken again, at once, when something runs on; the node may then be over its count for a while.

/** Waits shorter than this are not worth a message. */
const LEND_AFTER_MS = 20;

export class CpuLoan {
  readonly #tell: (isBlocked: boolean) => void;
  #timer: NodeJS.Timeout | null = null;
  #isLent = false;

  constructor(tell: (isBlocked: boolean) => void) {
    this.#tell = tell;
  }

  /** Called after each change with whether all of this worker waits now. */
  update(isWaiting: boolean): void {
    if (isWaiting === (this.#isLent || this.#timer !== null)) return;
    if (isWaiting) {
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#isLent = true;
        this.#tell(true);
      }, LEND_AFTER_MS);
      return;
    }
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#isLent) this.#tell(false);
    this.#isLent = false;
  }
}
