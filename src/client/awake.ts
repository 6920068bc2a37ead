// What keeps a driver's process from ending: something that its code waits for. All else that a driver holds (sockets,
// doors, timers) does not, so that a script ends by itself when its work is done.

const FOREVER_MS = 2 ** 31 - 1;

export class Awake {
  readonly #timer = setInterval(() => {}, FOREVER_MS).unref();
  #count = 0;

  begin(): void {
    if (this.#count === 0) this.#timer.ref();
    this.#count += 1;
  }
  readonly end = (): void => {
    this.#count -= 1;
    if (this.#count === 0) this.#timer.unref();
  };

  /** `work`, which this process does not end before. */
  during<T>(work: Promise<T>): Promise<T> {
    this.begin();
    return work.finally(this.end);
  }
}
