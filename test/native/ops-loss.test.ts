// The embedding and losses over the vocabulary of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import type { TensorHandle } from '../support/native-plan.js';
import { product, random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

opTest('embedding and its gradient', (plan) => {
  const [n, v, d] = [9, 5, 19];
  const next = random(1);
  const [table, addend, dy, start] = [next(v * d), next(n * d), next(n * d), next(v * d)];
  const ids = [0, 4, 4, 2, 1, 4, 0, 2, 2];
  const at = plan.ints(ids);
  const [y, added, dtable, grown] = [
    [n, d],
    [n, d],
    [v, d],
    [v, d],
  ].map((dims) => plan.tensor(dims, null)) as [TensorHandle, TensorHandle, TensorHandle, TensorHandle];
  const sum = plan.tensor([v, d], start);
  plan.op('embedding', [at, plan.tensor([v, d], table)], [y], [0]);
  plan.op('embedding', [at, plan.tensor([v, d], table), plan.tensor([n, d], addend)], [added], [0]);
  const g = plan.tensor([n, d], dy);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [dtable], [0, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [grown], [0, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [grown], [1, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [1])], [sum], [0, 0, -1]);
  const rows = range(n * d).map((e) => table[ids[Math.floor(e / d)]! * d + (e % d)]!);
  const grad = range(v * d).map((e) =>
    ids.reduce((total, id, r) => total + (id === Math.floor(e / d) ? dy[r * d + (e % d)]! : 0), 0),
  );
  return [
    [y, rows],
    [added, rows.map((value, e) => value + addend[e]!)],
    [dtable, grad],
    [grown, grad.map((value) => 2 * value)],
    [sum, grad.map((value, e) => value + start[e]!)],
  ];
});

opTest('log_sum_exp', (plan) => {
  const [rows, width] = [3, 37];
  const x = random(8)(rows * width);
  [x[5], x[9]] = [4, 4]; // of equals the first
  const row = (i: number) => x.slice(i * width, (i + 1) * width);
  const outputs = [plan.tensor([rows], null, 'i32'), plan.tensor([rows]), plan.tensor([rows])];
  plan.op('log_sum_exp', [plan.tensor([rows, width], x)], outputs, []);
  const tops = range(rows).map((i) => Math.max(...row(i)));
  return [
    [outputs[0]!, tops.map((top, i) => row(i).indexOf(top))],
    [outputs[1]!, tops],
    [outputs[2]!, tops.map((top, i) => Math.log(row(i).reduce((sum, value) => sum + Math.exp(value - top), 0)))],
  ];
});

const LABELLED: Readonly<Record<string, (row: number) => boolean>> = {
  'all rows': () => true,
  'two rows of three': (row) => row % 3 !== 1,
  'a run of rows': (row) => row >= 2 && row < 9,
  'no row': () => false,
};

for (const transposed of [0, 1]) {
  for (const [n, d, v, chunk, which] of [
    [11, 33, 101, 4, 'two rows of three'],
    [5, 8, 3, 64, 'two rows of three'],
    [40, 24, 50, 16, 'two rows of three'],
    [17, 24, 50, 5, 'all rows'],
    [17, 24, 50, 5, 'a run of rows'],
    [17, 24, 50, 5, 'no row'],
  ] as const) {
    opTest(`linear_cross_entropy of ${which}, ${n}x${d}x${v} by ${chunk}, transposed ${transposed}`, (plan) => {
      const next = random(v);
      const [x, w, start] = [next(n * d).map((value) => 4 * value), next(d * v), next(d * v)];
      const labels = range(n).map((i) => (LABELLED[which]!(i) ? (i * 7) % v : -100));
      const scale = 0.25;
      const weight = (word: number, i: number) => w[transposed ? i * v + word : word * d + i]!;
      const logits = product(
        n,
        v,
        d,
        (r, p) => x[r * d + p]!,
        (p, j) => weight(j, p),
      );
      const g = new Array<number>(n * v).fill(0);
      const losses = labels.map((label, i) => {
        if (label === -100) return 0;
        const row = logits.slice(i * v, (i + 1) * v);
        const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
        for (const j of range(v)) g[i * v + j] = scale * (Math.exp(row[j]!) / total - (j === label ? 1 : 0));
        return Math.log(total) - row[label]!;
      });
      const loss = [scale * losses.reduce((sum, value) => sum + value, 0)];
      const dx = product(
        n,
        d,
        v,
        (r, p) => g[r * v + p]!,
        (p, j) => weight(p, j),
      );
      const at = (word: number, i: number) => range(n).reduce((sum, r) => sum + g[r * v + word]! * x[r * d + i]!, 0);
      const dw = range(d * v).map((e) => (transposed ? at(e % v, Math.floor(e / v)) : at(Math.floor(e / d), e % d)));
      const dims = transposed ? [d, v] : [v, d];
      const inputs = [plan.tensor([n, d], x), plan.tensor(dims, w), plan.ints(labels), plan.tensor([1], [scale])];
      const outputs = () => [plan.tensor([1]), plan.tensor([n])] as const;
      const workspace = plan.tensor([chunk, v]);
      const [forward, fresh, added] = [outputs(), outputs(), outputs()];
      const [dxs, dws, dwAdded] = [plan.tensor([n, d], x), plan.tensor(dims, start), plan.tensor(dims, start)];
      plan.op('linear_cross_entropy', inputs, [...forward, workspace], [transposed, chunk, 0, 0, 0]);
      const zero = plan.tensor([1], [0]);
      const grad = 'linear_cross_entropy_grad';
      plan.op(grad, [...inputs, zero], [...fresh, dxs, workspace, dws], [transposed, chunk, 0, 0, 0, 0]);
      plan.op(grad, [...inputs, zero], [...added, dxs, workspace, dwAdded], [transposed, chunk, 1, 0, 0, 0]);
      return [
        ...[forward, fresh, added].flatMap(([total, each]): [TensorHandle, number[]][] => [
          [total, loss],
          [each, losses],
        ]),
        [dxs, dx],
        [dws, dw],
        [dwAdded, dw.map((value, e) => value + start[e]!)],
      ];
    });
  }
}
