// Matrix products and activations of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import type { TensorHandle } from '../support/native-plan.js';
import { ACTIVATIONS, product, random, range, slope } from './engine-reference.js';
import { opTest } from './op-test.js';

for (const [n, i, o] of [
  [1, 1, 1],
  [2, 20, 7],
  [3, 17, 5],
  [4, 70, 130],
  [37, 50, 131],
  [130, 421, 200],
  [9, 5000, 50],
] as const) {
  for (const transposed of [0, 1]) {
    const next = random(n + i + o);
    const [x, w, bias, dy, start] = [next(n * i), next(i * o), next(o), next(n * o), next(Math.max(i * o, n * i))];
    const weight = (oo: number, ii: number) => w[transposed ? ii * o + oo : oo * i + ii]!;
    const dims = transposed ? [i, o] : [o, i];
    const plain = product(
      n,
      o,
      i,
      (r, p) => x[r * i + p]!,
      (p, j) => weight(j, p),
    );

    opTest(`linear ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const [xs, ws] = [plan.tensor([n, i], x), plan.tensor(dims, w)];
      const outputs = range(6).map(() => plan.tensor([n, o]));
      plan.op('linear', [xs, ws], [outputs[0]!], [transposed, 0]);
      const bs = plan.tensor([o], bias);
      for (const kind of range(5)) {
        const pre = plan.tensor([n, o]);
        plan.op('linear', [xs, ws, bs], [outputs[kind + 1]!, pre], [transposed, kind]);
      }
      // Where nobody reads the value before, the activation may be the product's.
      const alone = range(5).map((kind) => {
        const [biased, plainly] = [plan.tensor([n, o]), plan.tensor([n, o])];
        plan.op('linear', [xs, ws, bs], [biased], [transposed, kind]);
        plan.op('linear', [xs, ws], [plainly], [transposed, kind]);
        const act = ACTIVATIONS[kind]!;
        return [
          [biased, plain.map((value, e) => act(value + bias[e % o]!))],
          [plainly, plain.map((value) => act(value))],
        ] as [TensorHandle, number[]][];
      });
      return [
        ...outputs.map((output, at): [TensorHandle, number[]] => {
          const act = ACTIVATIONS[Math.max(0, at - 1)]!;
          return [output, plain.map((value, e) => (at === 0 ? value : act(value + bias[e % o]!)))];
        }),
        ...alone.flat(),
      ];
    });

    opTest(`linear_backward_input ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const inputs = [plan.tensor([n, o], dy), plan.tensor(dims, w)];
      const expected = product(
        n,
        i,
        o,
        (r, p) => dy[r * o + p]!,
        (p, j) => weight(p, j),
      );
      const added = expected.map((value, e) => value + start[e]!);
      const addend = plan.tensor([n, i], start.slice(0, n * i));
      const inPlace = plan.tensor([n, i], start.slice(0, n * i));
      const [alone, apart] = [plan.tensor([n, i]), plan.tensor([n, i])];
      plan.op('linear_backward_input', inputs, [alone], [transposed]);
      plan.op('linear_backward_input', [...inputs, addend], [apart], [transposed]);
      plan.op('linear_backward_input', [...inputs, inPlace], [inPlace], [transposed]);
      return [
        [alone, expected],
        [apart, added],
        [inPlace, added],
      ];
    });

    opTest(`linear_backward_weight ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const inputs = [plan.tensor([n, i], x), plan.tensor([n, o], dy)];
      const at = (oo: number, ii: number) => range(n).reduce((sum, r) => sum + dy[r * o + oo]! * x[r * i + ii]!, 0);
      const expected = range(i * o).map((e) =>
        transposed ? at(e % o, Math.floor(e / o)) : at(Math.floor(e / i), e % i),
      );
      const sums = range(o).map((j) => range(n).reduce((sum, r) => sum + dy[r * o + j]!, 0));
      const [zero, one] = [plan.tensor([1], [0]), plan.tensor([1], [1])];
      const first = start.slice(0, i * o);
      const tensors = range(3).map(() => [plan.tensor(dims, first), plan.tensor([o], bias)] as const);
      plan.op('linear_backward_weight', [...inputs, zero], tensors[0]!, [transposed, 0]);
      plan.op('linear_backward_weight', [...inputs, one], tensors[1]!, [transposed, 0]);
      plan.op('linear_backward_weight', [...inputs, zero], tensors[2]!, [transposed, 1]);
      return tensors.flatMap(([dw, dbias], which) => [
        [dw, expected.map((value, e) => value + (which ? first[e]! : 0))],
        [dbias, sums.map((value, j) => value + (which ? bias[j]! : 0))],
      ]) as [TensorHandle, number[]][];
    });
  }
}

for (const kind of range(5)) {
  opTest(`activation ${kind}, gated, and gradients`, (plan) => {
    const n = 1003;
    const next = random(kind);
    const x = range(n).map((i) => Math.fround(-12 + (24 * i) / n));
    const [dy, up] = [next(n), next(n)];
    const f = ACTIVATIONS[kind]!;
    const [xs, ds, us] = [x, dy, up].map((values) => plan.tensor([n], values)) as [
      TensorHandle,
      TensorHandle,
      TensorHandle,
    ];
    const [y, dx, gated, inPlace] = range(4).map(() => plan.tensor([n])) as [
      TensorHandle,
      TensorHandle,
      TensorHandle,
      TensorHandle,
    ];
    const [gate, gradUp] = [plan.tensor([n], x), plan.tensor([n], up)];
    plan.op('activation', [xs], [y], [kind]);
    plan.op('copy', [xs], [inPlace]);
    plan.op('activation', [inPlace], [inPlace], [kind]);
    plan.op('activation_backward', [ds, xs], [dx], [kind]);
    plan.op('gated_activation', [xs, us], [gated], [kind]);
    plan.op('gated_activation_backward', [ds, gate, gradUp], [gate, gradUp], [kind]);
    const value = x.map(f);
    const slopes = x.map((at) => slope(f, at));
    return [
      [y, value, 1e-6],
      [inPlace, value, 1e-6],
      [dx, slopes.map((s, i) => s * dy[i]!)],
      [gated, value.map((act, i) => act * up[i]!), 1e-6],
      [gate, slopes.map((s, i) => s * dy[i]! * up[i]!)],
      [gradUp, value.map((act, i) => act * dy[i]!)],
    ];
  });
}
