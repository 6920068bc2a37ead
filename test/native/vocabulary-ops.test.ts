// The head and loss over a vocabulary in two parts, on every device: both parts in one plan, their statistics added as ranks would, against
// softmax and its gradient over the whole.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEVICES } from '../support/devices.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';
import { product, random, range } from './engine-reference.js';

const [N, D, V, CHUNK] = [9, 10, 11, 4];
const PART = 6; // columns of a part, of which the second has one of padding
const [SMOOTHING, Z, SCALE] = [0.1, 0.02, 0.25];
const next = random(7);
const [x, w, bias] = [next(N * D).map((value) => 3 * value), next(V * D), next(V)];
const labels = range(N).map((i) => (i % 3 === 1 ? -100 : (i * 7) % V));
const weights = range(N).map((i) => 1 + i / 4);

/** What the whole comes to. */
const logits = product(
  N,
  V,
  D,
  (r, p) => x[r * D + p]!,
  (p, j) => w[j * D + p]!,
).map((value, e) => value + bias[e % V]!);
const g = new Array<number>(N * V).fill(0);
const entropies = new Array<number>(N).fill(0);
const losses = labels.map((label, i) => {
  if (label === -100) return 0;
  const row = logits.slice(i * V, (i + 1) * V);
  const l = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
  const factor = SCALE * weights[i]!;
  for (const j of range(V)) {
    const p = Math.exp(row[j]! - l);
    g[i * V + j] = factor * (p * (1 + 2 * Z * l) - (j === label ? 1 - SMOOTHING : 0) - SMOOTHING / V);
    entropies[i]! -= p * (row[j]! - l);
  }
  const mean = row.reduce((sum, value) => sum + value, 0) / V;
  return l - (1 - SMOOTHING) * row[label]! - SMOOTHING * mean + Z * l * l;
});
const loss = SCALE * losses.reduce((sum, value, i) => sum + weights[i]! * value, 0);
const dx = product(
  N,
  D,
  V,
  (r, p) => g[r * V + p]!,
  (p, j) => w[p * D + j]!,
);
const dw = (word: number, i: number): number => range(N).reduce((sum, r) => sum + g[r * V + word]! * x[r * D + i]!, 0);

function close(found: readonly number[], expected: readonly number[], what: string): void {
  assert.equal(found.length, expected.length);
  for (const [i, value] of found.entries())
    assert.ok(Math.abs(value - expected[i]!) < 2e-5, `${what}[${i}] is ${value}, expected ${expected[i]}`);
}

/** Rows (or, transposed, columns) of w that are of a part; padding holds what must not count. */
function partOf(values: readonly number[], rank: number, transposed: number): number[] {
  const row = (word: number): number[] =>
    rank * PART + word < V
      ? values.slice((rank * PART + word) * D, (rank * PART + word + 1) * D)
      : new Array<number>(D).fill(9);
  const rows = range(PART).map(row);
  return transposed ? range(D).flatMap((i) => rows.map((each) => each[i]!)) : rows.flat();
}

for (const transposed of [0, 1]) {
  for (const { name, open } of DEVICES) {
    test(`vocabulary_logits, _loss and _loss_grad of two parts, transposed ${transposed} (${name})`, async () => {
      const plan = new PlanWriter();
      const xs = plan.tensor([N, D], x);
      const [ls, scale, zero] = [plan.ints(labels), plan.tensor([1], [SCALE]), plan.tensor([1], [0])];
      const ws = plan.tensor([N], weights);
      const parts = [0, 1].map((rank) => ({
        w: plan.tensor(transposed ? [D, PART] : [PART, D], partOf(w, rank, transposed)),
        bias: plan.tensor([PART], [...bias.slice(rank * PART, (rank + 1) * PART), 9].slice(0, PART)),
        logits: plan.tensor([CHUNK, PART]),
        stats: plan.tensor([2, 5, CHUNK]),
        outputs: [plan.tensor([1]), plan.tensor([N]), plan.tensor([N, D])] as const,
        dw: plan.tensor(transposed ? [D, PART] : [PART, D]),
        dbias: plan.tensor([PART]),
        place: [V, rank * PART, Math.min(PART, V - rank * PART), rank],
      }));
      const stats = plan.tensor([2, 5, CHUNK]);
      const [total, each, spread] = [plan.tensor([1]), plan.tensor([N]), plan.tensor([N])];
      for (const chunk of range(Math.ceil(N / CHUNK))) {
        for (const part of parts)
          plan.op(
            'vocabulary_logits',
            [xs, part.w, ls, part.bias],
            [part.logits, part.stats],
            [...[transposed, chunk, ...part.place, 1]],
          );
        plan.op('add', [parts[0]!.stats, parts[1]!.stats], [stats]);
        plan.op('vocabulary_loss', [stats, ls, scale, ws], [total, each, spread], [chunk, V, SMOOTHING, Z]);
        for (const part of parts) {
          const inputs = [xs, part.w, ls, scale, ws, part.logits, stats, zero];
          const outputs = [...part.outputs, part.logits, part.dw, part.dbias];
          plan.op('vocabulary_loss_grad', inputs, outputs, [transposed, chunk, ...part.place, SMOOTHING, Z, 1, 0]);
        }
      }
      const device = open();
      try {
        const loaded = plan.load(device);
        const read = (tensor: TensorHandle): number[] => loaded.read(tensor);
        for (const run of [1, 2]) {
          await loaded.program.run();
          close(read(total), [loss], `loss of run ${run}`);
          close(read(each), losses, 'tokenLosses');
          close(read(spread), entropies, 'entropies');
          for (const { outputs } of parts) {
            close(read(outputs[0]), [loss], 'loss with gradients');
            close(read(outputs[1]), losses, 'tokenLosses with gradients');
          }
          const [first, second] = parts.map(({ outputs }) => read(outputs[2])) as [number[], number[]];
          close(
            first.map((value, e) => value + second[e]!),
            dx,
            'dx',
          );
          for (const [rank, part] of parts.entries()) {
            const found = read(part.dw);
            for (const word of range(part.place[2]!))
              for (const i of range(D)) {
                const at = transposed ? i * PART + word : word * D + i;
                close([found[at]!], [dw(rank * PART + word, i)], `dw of word ${rank * PART + word}`);
              }
            const sums = range(part.place[2]!).map((word) =>
              range(N).reduce((sum, r) => sum + g[r * V + rank * PART + word]!, 0),
            );
            close(read(part.dbias).slice(0, part.place[2]!), sums, 'dbias');
          }
        }
      } finally {
        device.dispose();
      }
    });
  }
}
