// Norms of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import type { TensorHandle } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

for (const [n, d] of [
  [5, 7],
  [70, 129],
] as const) {
  for (const isRms of [false, true]) {
    opTest(`${isRms ? 'rms_norm' : 'layer_norm'} ${n}x${d} with residual and gradient`, (plan) => {
      const next = random(d);
      const [x, r, gain, bias, dy, addend, start] = [n * d, n * d, d, d, n * d, n * d, d].map(next) as number[][];
      const eps = 1e-5;
      const sum = x!.map((value, e) => value + r![e]!);
      const row = (values: readonly number[], i: number) => values.slice(i * d, (i + 1) * d);
      const mean = range(n).map((i) => (isRms ? 0 : row(sum, i).reduce((t, value) => t + value, 0) / d));
      const rstd = range(n).map(
        (i) => 1 / Math.sqrt(row(sum, i).reduce((t, value) => t + (value - mean[i]!) ** 2, 0) / d + eps),
      );
      const xhat = sum.map((value, e) => (value - mean[Math.floor(e / d)]!) * rstd[Math.floor(e / d)]!);
      const y = xhat.map((value, e) => value * gain![e % d]! + (isRms ? 0 : bias![e % d]!));
      const scaled = dy!.map((value, e) => value * gain![e % d]!);
      const dx = range(n * d).map((e) => {
        const i = Math.floor(e / d);
        const shift = isRms ? 0 : row(scaled, i).reduce((t, value) => t + value, 0) / d;
        const along = row(scaled, i).reduce((t, value, j) => t + value * xhat[i * d + j]!, 0) / d;
        return (scaled[e]! - shift - xhat[e]! * along) * rstd[i]!;
      });
      const column = (values: readonly number[]) =>
        range(d).map((j) => range(n).reduce((t, i) => t + values[i * d + j]!, 0));
      const dgain = column(dy!.map((value, e) => value * xhat[e]!));
      const dbias = column(dy!);

      const [xs, rs, gains, biases, dys, addends] = [
        plan.tensor([n, d], x),
        plan.tensor([n, d], r),
        plan.tensor([d], gain),
        plan.tensor([d], bias),
        plan.tensor([n, d], dy),
        plan.tensor([n, d], addend),
      ];
      const [ys, again, dxs, dxAdded] = range(4).map(() => plan.tensor([n, d])) as [
        TensorHandle,
        TensorHandle,
        TensorHandle,
        TensorHandle,
      ];
      const [means, rstds] = [plan.tensor([n]), plan.tensor([n])];
      const [dgains, dgainsAdded, dbiases, dbiasesAdded] = [
        plan.tensor([d], start),
        plan.tensor([d], start),
        plan.tensor([d], start),
        plan.tensor([d], start),
      ];
      const [zero, one] = [plan.tensor([1], [0]), plan.tensor([1], [1])];
      const name = isRms ? 'rms_norm' : 'layer_norm';
      const affine = isRms ? [gains] : [gains, biases];
      const saved = isRms ? [rstds] : [means, rstds];
      plan.op(`add_${name}`, [xs, rs, ...affine], [xs, ys, ...saved], [eps]); // the sum in place on x
      plan.op(name, [xs, ...affine], [again, ...saved], [eps]);
      const grads = (g: TensorHandle, b: TensorHandle) => (isRms ? [g] : [g, b]);
      plan.op(`${name}_backward`, [dys, xs, gains, ...saved, zero], [dxs, ...grads(dgains, dbiases)], [0, 0]);
      plan.op(
        `${name}_backward`,
        [dys, xs, gains, ...saved, addends, one],
        [dxAdded, ...grads(dgainsAdded, dbiasesAdded)],
        [0, 1],
      );
      const expected: [TensorHandle, number[]][] = [
        [xs, sum],
        [ys, y],
        [again, y],
        [rstds, rstd],
        [dxs, dx],
        [dxAdded, dx.map((value, e) => value + addend![e]!)],
        [dgains, dgain],
        [dgainsAdded, dgain.map((value, j) => value + start![j]!)],
      ];
      if (!isRms) {
        expected.push([means, mean], [dbiases, dbias], [dbiasesAdded, dbias.map((value, j) => value + start![j]!)]);
      }
      return expected;
    });
  }
}
