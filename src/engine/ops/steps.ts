// The optimisers that update parameters in place: state and parameter in, both out on the same bytes. Behind their inputs comes
// `random` i32[3] (seed, step) where parameters or state are bf16 and so rounded by chance; behind their outputs the parameters
// rounded to 16 bits, where f32 masters are stepped (attribute `rounded`: the code of that type, only the compiler reads it).
import { elementCount, type FloatType, floatTypeOf } from '../graph.js';
import {
  attribute,
  expectInputs,
  expectType,
  f32,
  matrix,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
  type TensorType,
  totalBytes,
  vector,
} from './rule.js';

/** Where chances come from: the stream of a whole that slices are cut from, and the first element of this one. */
const CHANCE = ['stream', 'first'] as const;

interface Form {
  readonly p: FloatType;
  readonly state: FloatType;
  /** Inputs before `random`. */
  readonly inputs: number;
}

/** How parameter and state are stored; `counts` are the numbers of inputs that there may be before `random`, which this checks. */
function formOf(call: OpCall, hasState: boolean, counts: readonly number[]): Form {
  const p = storageType(call, 0, 'p');
  const state = hasState ? storageType(call, 1, 'state') : 'f32';
  const isByChance = p === 'bf16' || state === 'bf16';
  const last = isByChance ? 1 : 0;
  expectInputs(
    call,
    counts.map((count) => count + last),
  );
  const inputs = call.inputs.length - last;
  if (isByChance) expectType(call, 'random', operand(call, inputs, 'random'), [3], 'i32');
  return { p, state, inputs };
}

function roundedCopy(call: OpCall, length: number): readonly TensorType[] {
  const type = floatTypeOf(attribute(call, 'rounded'));
  return type === 'f32' ? [] : [stored(type, length)];
}

/** What an element-wise optimiser takes: p[n], its state [n] each, f32 g[n], then scalars [1]. */
interface Elementwise {
  readonly kind: string;
  readonly attributes: readonly string[];
  readonly state: (call: OpCall) => readonly string[];
  readonly scalars: readonly string[];
  /** Behind them where a schedule moves beta1 from step to step; else the attribute holds. */
  readonly takesBeta1?: boolean;
  /** Per element. */
  readonly flops: number;
}

function elementwise({ kind, attributes, state, scalars, takesBeta1, flops }: Elementwise): OpRule {
  return {
    kind,
    attributes,
    optionalAttributes: CHANCE,
    updates: (call) => ['p', ...state(call)].map((_, index) => [index, index] as const),
    cut: ({ decayEnd = 0, first, ...others }, start, length) => ({
      ...others,
      decayEnd: Math.min(Math.max(decayEnd - start, 0), length),
      ...(first === undefined ? {} : { first: first + start }),
    }),
    infer(call) {
      const states = state(call);
      const count = 2 + states.length + scalars.length;
      const form = formOf(call, states.length > 0, takesBeta1 ? [count, count + 1] : [count]);
      const length = vector(call, 0, 'p', form.p);
      for (const [index, name] of states.entries())
        expectType(call, name, operand(call, 1 + index, name), [length], form.state);
      const g = 1 + states.length;
      expectType(call, 'g', operand(call, g, 'g'), [length]);
      for (const [index, name] of scalars.entries()) expectType(call, name, operand(call, g + 1 + index, name), [1]);
      if (form.inputs > count) expectType(call, 'beta1', operand(call, count, 'beta1'), [1]);
      return [stored(form.p, length), ...states.map(() => stored(form.state, length)), ...roundedCopy(call, length)];
    },
    cost: (op) => ({ flops: flops * elementCount(op.inputs[0]!.dims), bytes: totalBytes(op) }),
  };
}

/** p, m, v, g, factor, lr, step, (beta1) → p, m, v. Decoupled decay, arXiv:1711.05101, or L2. */
export const adamw = elementwise({
  kind: 'adamw',
  attributes: ['beta1', 'beta2', 'eps', 'weightDecay', 'decayEnd', 'adamWMode', 'biasCorrection'],
  state: () => ['m', 'v'],
  scalars: ['factor', 'lr', 'step'],
  takesBeta1: true,
  flops: 14,
});

/** p, m, g, factor, lr, (beta1) → p, m. Symbolic discovery, arXiv:2302.06675 Alg. 2. */
export const lion = elementwise({
  kind: 'lion',
  attributes: ['beta1', 'beta2', 'weightDecay', 'decayEnd'],
  state: () => ['m'],
  scalars: ['factor', 'lr'],
  takesBeta1: true,
  flops: 10,
});

/** p, s, g, factor, lr, step → p, s. As torch.optim.Adagrad. */
export const adagrad = elementwise({
  kind: 'adagrad',
  attributes: ['eps', 'lrDecay', 'weightDecay', 'decayEnd'],
  state: () => ['s'],
  scalars: ['factor', 'lr', 'step'],
  flops: 9,
});

/** p, (m), g, factor, lr, step → p, (m); m only with momentum. As torch.optim.SGD. */
export const sgd = elementwise({
  kind: 'sgd',
  attributes: ['momentum', 'dampening', 'nesterov', 'weightDecay', 'decayEnd'],
  state: (call) => (attribute(call, 'momentum') === 0 ? [] : ['m']),
  scalars: ['factor', 'lr', 'step'],
  flops: 8,
});

/** p[R,C], m[R,C], g[R,C], factor, lr → p, m, workspace. Orthogonalised momentum, https://kellerjordan.github.io/posts/muon/. */
export const muon: OpRule = {
  kind: 'muon',
  attributes: ['momentum', 'nesterov', 'iterations', 'weightDecay'],
  optionalAttributes: CHANCE,
  updates: [
    [0, 0],
    [1, 1],
  ],
  workspaces: [2],
  infer(call) {
    const form = formOf(call, true, [5]);
    const [rows, columns] = matrix(call, 0, 'p', form.p);
    expectType(call, 'm', operand(call, 1, 'm'), [rows, columns], form.state);
    expectType(call, 'g', operand(call, 2, 'g'), [rows, columns]);
    expectType(call, 'factor', operand(call, 3, 'factor'), [1]);
    expectType(call, 'lr', operand(call, 4, 'lr'), [1]);
    const lines = (floats: number) => Math.ceil(floats / 16) * 16;
    const workspace = 2 * lines(rows * columns) + 2 * lines(Math.min(rows, columns) ** 2);
    const stepped = [stored(form.p, rows, columns), stored(form.state, rows, columns), f32(workspace)];
    return [...stepped, ...roundedCopy(call, rows * columns)];
  },
  cost: (op) => {
    const [rows, columns] = op.inputs[0]!.dims as [number, number];
    const least = Math.min(rows, columns);
    const flops = op.attributes.iterations! * (4 * rows * columns * least + 2 * least ** 3);
    return { flops, bytes: 20 * rows * columns };
  },
};
