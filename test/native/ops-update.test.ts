// Sums, norms of gradients and steps of AdamW of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import type { TensorHandle } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

opTest('add, fill, gather_rows, sum_squares, clip_factor', (plan) => {
  const n = 20000;
  const next = random(3);
  const [a, b] = [next(n), next(n)];
  const [as, bs, sum, filled] = [plan.tensor([n], a), plan.tensor([n], b), plan.tensor([n]), plan.tensor([n])];
  const index = [7, 0, 7, 399];
  const gathered = plan.tensor([4, 50]);
  const [s, norm, factor, free, kept] = range(5).map(() => plan.tensor([1])) as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ];
  plan.op('add', [as, bs], [sum]);
  plan.op('fill', [], [filled], [1.5]);
  plan.op('gather_rows', [plan.tensor([400, 50], a), plan.ints(index)], [gathered]);
  plan.op('sum_squares', [as], [s], [0]);
  plan.op('sum_squares', [bs], [s], [1]);
  plan.op('clip_factor', [s], [norm, factor], [1]);
  plan.op('clip_factor', [s], [free, kept], [0]);
  const squares = [...a, ...b].reduce((total, x) => total + x * x, 0);
  return [
    [sum, a.map((x, i) => x + b[i]!), 1e-6],
    [filled, a.map(() => 1.5)],
    [gathered, index.flatMap((row) => a.slice(row * 50, (row + 1) * 50))],
    [s, [squares], 1e-6],
    [norm, [Math.sqrt(squares)], 1e-6],
    [factor, [1 / (Math.sqrt(squares) + 1e-6)], 1e-6],
    [kept, [1]],
  ];
});

for (const adamWMode of [0, 1]) {
  for (const biasCorrection of [0, 1]) {
    opTest(`adamw, adamWMode ${adamWMode}, biasCorrection ${biasCorrection}`, (plan) => {
      const [n, decayEnd, step, lr, factor] = [9001, 5003, 3, 0.01, 0.5];
      const [beta1, beta2, eps, decay] = [0.9, 0.99, 1e-6, 0.1];
      const next = random(step);
      const [p, m, g] = [next(n), next(n), next(n)];
      const v = next(n).map(Math.abs);
      const tensors = [p, m, v].map((values) => plan.tensor([n], values));
      const scalars = [factor, lr, step].map((value) => plan.tensor([1], [value]));
      const attributes = [beta1, beta2, eps, decay, decayEnd, adamWMode, biasCorrection];
      plan.op('adamw', [...tensors, plan.tensor([n], g), ...scalars], tensors, attributes);
      const want = range(n).map((i) => {
        const own = i < decayEnd ? decay : 0;
        const grad = g[i]! * factor + (adamWMode ? 0 : own * p[i]!);
        const shrunk = adamWMode ? p[i]! * (1 - lr * own) : p[i]!;
        const m1 = beta1 * m[i]! + (1 - beta1) * grad;
        const v1 = beta2 * v[i]! + (1 - beta2) * grad * grad;
        const [c1, c2] = biasCorrection ? [1 - beta1 ** step, 1 - beta2 ** step] : [1, 1];
        return [shrunk - (lr * (m1 / c1)) / (Math.sqrt(v1 / c2) + eps), m1, v1] as const;
      });
      return tensors.map((tensor, which) => [tensor, want.map((row) => row[which]!), 1e-5]) as [
        TensorHandle,
        number[],
        number,
      ][];
    });
  }
}
