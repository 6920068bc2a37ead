// The optimisers that update parameters in place: state and parameter in, both out on the same bytes.
import { attribute, expectInputs, expectType, f32, matrix, type OpCall, type OpRule, operand, vector } from './rule.js';

/** What an element-wise optimiser takes: p[n], its state [n] each, g[n], then scalars [1]. */
interface Elementwise {
  readonly kind: string;
  readonly attributes: readonly string[];
  readonly state: (call: OpCall) => readonly string[];
  readonly scalars: readonly string[];
  /** Per element. */
  readonly flops: number;
}

function elementwise({ kind, attributes, state, scalars, flops }: Elementwise): OpRule {
  return {
    kind,
    attributes: [...attributes, 'weightDecay', 'decayEnd'],
    updates: [
      [0, 0],
      [1, 1],
    ],
    infer(call) {
      const vectors = ['p', ...state(call), 'g'];
      expectInputs(call, [vectors.length + scalars.length]);
      const length = vector(call, 0, 'p');
      for (const [index, name] of vectors.entries()) expectType(call, name, operand(call, index, name), [length]);
      for (const [index, name] of scalars.entries())
        expectType(call, name, operand(call, vectors.length + index, name), [1]);
      return vectors.slice(1).map(() => f32(length));
    },
    cost: (op) => {
      const [n] = op.inputs[0]!.dims as [number];
      return { flops: flops * n, bytes: 4 * n * (2 * op.outputs.length + 1) };
    },
  };
}

/** p, m, g, factor, lr → p, m. Symbolic discovery, arXiv:2302.06675 Alg. 2. */
export const lion = elementwise({
  kind: 'lion',
  attributes: ['beta1', 'beta2'],
  state: () => ['m'],
  scalars: ['factor', 'lr'],
  flops: 10,
});

/** p, s, g, factor, lr, step → p, s. As torch.optim.Adagrad. */
export const adagrad = elementwise({
  kind: 'adagrad',
  attributes: ['eps', 'lrDecay'],
  state: () => ['s'],
  scalars: ['factor', 'lr', 'step'],
  flops: 9,
});

/** p, (m), g, factor, lr, step → p, (m); m only with momentum. As torch.optim.SGD. */
export const sgd = elementwise({
  kind: 'sgd',
  attributes: ['momentum', 'dampening', 'nesterov'],
  state: (call) => (attribute(call, 'momentum') === 0 ? [] : ['m']),
  scalars: ['factor', 'lr', 'step'],
  flops: 8,
});

/** p[R,C], m[R,C], g[R,C], factor, lr → p, m, workspace. Orthogonalised momentum, https://kellerjordan.github.io/posts/muon/. */
export const muon: OpRule = {
  kind: 'muon',
  attributes: ['momentum', 'nesterov', 'iterations', 'weightDecay'],
  updates: [
    [0, 0],
    [1, 1],
  ],
  workspaces: [2],
  infer(call) {
    expectInputs(call, [5]);
    const [rows, columns] = matrix(call, 0, 'p');
    for (const [index, name] of [...['p', 'm', 'g'].entries()].slice(1))
      expectType(call, name, operand(call, index, name), [rows, columns]);
    expectType(call, 'factor', operand(call, 3, 'factor'), [1]);
    expectType(call, 'lr', operand(call, 4, 'lr'), [1]);
    const lines = (floats: number) => Math.ceil(floats / 16) * 16;
    const workspace = 2 * lines(rows * columns) + 2 * lines(Math.min(rows, columns) ** 2);
    return [f32(rows, columns), f32(rows, columns), f32(workspace)];
  },
  cost: (op) => {
    const [rows, columns] = op.inputs[0]!.dims as [number, number];
    const least = Math.min(rows, columns);
    const flops = op.attributes.iterations! * (4 * rows * columns * least + 2 * least ** 3);
    return { flops, bytes: 20 * rows * columns };
  },
};
