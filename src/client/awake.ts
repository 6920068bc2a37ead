// What keeps a driver's process from ending: something that its code waits for. All else that a driver holds (sockets,
// doors, timers) does not, so that a script ends by itself when its work is done.

/** How often it is looked whether something is still waited for: holding and letting go for each call would cost more than the call. */
const LOOK_MS = 25;

export class Awake {
  #timer: NodeJS.Timeout | null = null;
  #count = 0;

  begin(): void {
    this.#count += 1;
    this.#timer ??= setInterval(this.#look, LOOK_MS);
  }
  readonly end = (): void => {
    this.#count -= 1;
  };

  /** `work`, which this process does not end before. */
  during<T>(work: Promise<T>): Promise<T> {
    this.begin();
    return work.finally(this.end);
  }

  readonly #look = (): void => {
    if (this.#count > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  };
}
