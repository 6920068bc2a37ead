// Collects the comparisons of a case; the worst one is what its line shows.

export interface Check {
  readonly what: string;
  readonly error: number;
  readonly limit: number;
}

export class Checks {
  readonly #all: Check[] = [];

  /** Records an error against its limit. NaN fails. */
  add(what: string, error: number, limit: number): void {
    this.#all.push({ what, error, limit });
  }

  /** Largest absolute difference of the elements that `isCounted` lets in. */
  arrays(
    what: string,
    found: ArrayLike<number>,
    expected: ArrayLike<number>,
    limit: number,
    isCounted: (index: number) => boolean = () => true,
  ): void {
    if (found.length !== expected.length) {
      this.add(`${what}: ${found.length} values for ${expected.length}`, Number.POSITIVE_INFINITY, limit);
      return;
    }
    let worst = 0;
    for (let i = 0; i < expected.length; i++) {
      if (!isCounted(i)) continue;
      const error = Math.abs(found[i]! - expected[i]!);
      if (!(error <= worst)) worst = error;
    }
    this.add(what, worst, limit);
  }

  relative(what: string, found: number, expected: number, limit: number): void {
    this.add(what, Math.abs(found / expected - 1), limit);
  }

  /** The check that comes closest to its limit or lies furthest beyond it. */
  get worst(): Check {
    const ratio = ({ error, limit }: Check) =>
      Number.isNaN(error) ? Number.POSITIVE_INFINITY : limit > 0 ? error / limit : error;
    const [first, ...rest] = this.#all;
    if (!first) return { what: 'nothing was compared', error: Number.POSITIVE_INFINITY, limit: 0 };
    return rest.reduce((worst, check) => (ratio(check) > ratio(worst) ? check : worst), first);
  }

  get isPassed(): boolean {
    return this.#all.length > 0 && this.#all.every(({ error, limit }) => error <= limit);
  }
}

/** The limits of golden/README.md for float32. */
export const LIMITS = {
  logits: 5e-5,
  loss: 1e-5,
  gradients: 3e-4, // of the root mean square
  idleGradients: 1e-6, // absolute: rounding noise
  gradientNorm: 1e-5, // relative
  curve: 5e-5,
  finalNorms: 3e-5, // relative
  equal: 0,
} as const;

/** Those for bfloat16: twice what PyTorch in bfloat16 is off its own float32. */
export const BF16_LIMITS = { curve: 0.054, curveMean: 0.01, gradientNorm: 0.024, finalNorms: 2 ** -8 } as const;

/** Root mean square of the elements that `isCounted` lets in. */
export function rootMeanSquare(values: ArrayLike<number>, isCounted: (index: number) => boolean = () => true): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    if (!isCounted(i)) continue;
    sum += values[i]! ** 2;
    count++;
  }
  return Math.sqrt(sum / Math.max(count, 1));
}
