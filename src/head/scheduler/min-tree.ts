// A tournament of numbers: the least of many, and which it is, after one of them changed, in log n steps.

export class MinTree {
  /** Leaf `i` is at `#leafCount + i`; above each pair stands the lesser of the two. */
  readonly #values: Float64Array;
  readonly #leafCount: number;

  /** All numbers are Infinity at first. */
  constructor(capacity: number) {
    this.#leafCount = 2 ** Math.ceil(Math.log2(Math.max(1, capacity)));
    this.#values = new Float64Array(2 * this.#leafCount).fill(Number.POSITIVE_INFINITY);
  }

  get capacity(): number {
    return this.#leafCount;
  }

  at(index: number): number {
    return this.#values[this.#leafCount + index]!;
  }

  set(index: number, value: number): void {
    const values = this.#values;
    let at = this.#leafCount + index;
    if (values[at] === value) return;
    values[at] = value;
    for (at >>= 1; at >= 1; at >>= 1) {
      const least = Math.min(values[2 * at]!, values[2 * at + 1]!);
      if (values[at] === least) return;
      values[at] = least;
    }
  }

  /** Where the least number is, the first of several; -1 where all are Infinity. */
  get first(): number {
    if (this.#values[1] === Number.POSITIVE_INFINITY) return -1;
    let at = 1;
    while (at < this.#leafCount) at = this.#values[2 * at]! <= this.#values[2 * at + 1]! ? 2 * at : 2 * at + 1;
    return at - this.#leafCount;
  }
}
