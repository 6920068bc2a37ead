// softmax and its gradient against a plain reference on every device: rows of less than a vector, of several and wider than what a kernel
// keeps; what is hidden, in a part of a row and in all of it.
import { random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

const LOWEST = -3.4028234663852886e38;

for (const [n, d] of [
  [5, 7],
  [9, 131],
  [3, 5003],
] as const) {
  opTest(`softmax ${n}x${d} and gradient`, (plan) => {
    const next = random(d);
    const x = (next(n * d) as number[]).map((value) => Math.fround(10 * value));
    for (let j = 0; j < d; j += 3) x[j] = j % 2 === 0 ? LOWEST : Number.NEGATIVE_INFINITY;
    for (let j = 0; j < d; j += 1) x[d + j] = LOWEST; // hidden as a whole: nothing is more likely than the rest
    const dy = next(n * d) as number[];
    const row = (values: readonly number[], i: number) => values.slice(i * d, (i + 1) * d);
    const y = range(n).flatMap((i) => {
      const top = row(x, i).reduce((most, value) => Math.max(most, value));
      const powers = row(x, i).map((value) => Math.exp(value - top));
      const sum = powers.reduce((total, value) => total + value, 0);
      return powers.map((value) => value / sum);
    });
    const dx = range(n).flatMap((i) => {
      const along = row(y, i).reduce((total, value, j) => total + value * dy[i * d + j]!, 0);
      return row(y, i).map((value, j) => value * (dy[i * d + j]! - along));
    });
    const [xs, dys] = [plan.tensor([n, d], x), plan.tensor([n, d], dy)];
    const [ys, dxs] = [plan.tensor([n, d]), plan.tensor([n, d])];
    plan.op('softmax', [xs], [ys]);
    plan.op('softmax_backward', [dys, ys], [dxs]);
    plan.op('softmax', [xs], [xs]); // in place
    return [
      [ys, y],
      [xs, y],
      [dxs, dx],
    ];
  });
}
