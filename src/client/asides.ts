// Memory for values that wait for room in the store. One piece is kept for the next value: a copy into memory that is there takes
// half the time.
import { type NativeAside, native } from '../native/index.js';

const KEEP_MS = 2_000;

export class Asides {
  #spare: NativeAside | null = null;
  #freed: NodeJS.Timeout | null = null;

  take(): NativeAside {
    const aside = this.#spare ?? new (native().NativeAside)();
    this.#spare = null;
    if (this.#freed) clearTimeout(this.#freed);
    return aside;
  }

  giveBack(aside: NativeAside): void {
    this.#spare?.free();
    this.#spare = aside;
    if (this.#freed) clearTimeout(this.#freed);
    this.#freed = setTimeout(() => {
      this.#spare?.free();
      this.#spare = null;
    }, KEEP_MS).unref();
  }
}
