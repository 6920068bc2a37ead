// y = activation(x w + bias) and its two derivatives. w is [O, I], or [I, O] when `transposed` (GPT-2's Conv1D).
import type { FloatType, Op, Tensor, TensorId } from '../graph.js';
import {
  attribute,
  expectInputs,
  expectType,
  f32,
  matrix,
  type OpCall,
  type OpRule,
  operand,
  type PlacedOp,
  storageType,
  stored,
  totalBytes,
} from './rule.js';

/** [outputs, inputs] of the weight at input `index`. */
function weightShape(call: OpCall, index: number, type: FloatType): readonly [outputs: number, inputs: number] {
  const [first, second] = matrix(call, index, 'w', type);
  return attribute(call, 'transposed') ? [second, first] : [first, second];
}

function productCost(op: PlacedOp, x: Tensor, dy: Tensor) {
  return { flops: 2 * x.dims[0]! * x.dims[1]! * dy.dims[1]!, bytes: totalBytes(op) };
}

/** What a layer's rank runs with that leaves the bias to another one. */
export function withoutLeftBias({ inputs, attributes }: Pick<Op, 'inputs' | 'attributes'>): readonly TensorId[] {
  return attributes.leavesBias ? inputs.slice(0, 2) : inputs;
}

/**
 * x[N,I], w, (bias[O]) → y[N,O], (pre[N,O]: the sum before the activation). With `wide`, which only the compiler reads, y is f32. Where y is a term of a
 * sum over ranks, one of them adds the bias: the others have `leavesBias`, but all have its gradient.
 */
export const linear: OpRule = {
  kind: 'linear',
  attributes: ['transposed', 'activation'],
  optionalOutputsFrom: 1,
  infer(call) {
    expectInputs(call, [2, 3]);
    const type = storageType(call, 0, 'x');
    const [rows] = matrix(call, 0, 'x', type);
    const [outputs, inputs] = weightShape(call, 1, type);
    expectType(call, 'x', operand(call, 0, 'x'), [rows, inputs], type);
    const bias = call.inputs[2];
    if (bias) expectType(call, 'bias', bias, [outputs], type);
    const y = stored(call.attributes.wide ? 'f32' : type, rows, outputs);
    return attribute(call, 'activation') === 0 ? [y] : [y, stored(type, rows, outputs)];
  },
  shortcut({ outputs, attributes }) {
    const kind = attributes.activation!;
    return kind === 0
      ? null
      : { from: 1, outputs: [0], kind: 'activation', inputs: [outputs[1]!], attributes: { kind } };
  },
  backward({ inputs, outputs, attributes, gradients, needs, emit }) {
    const [x, w] = inputs as [Tensor, Tensor];
    const dy = gradients[0] ?? null;
    if (!dy) return inputs.map(() => null);
    const transposed = attributes.transposed!;
    const kind = attributes.activation!;
    const [dpre] = kind === 0 ? [dy] : emit('activation_backward', [dy, outputs[1]!], { kind });
    const hasBias = inputs.length === 3;
    const [dx] = needs[0] ? emit('linear_backward_input', [dpre!, w], { transposed }) : [];
    const [dw, dbias] =
      needs[1] || needs[2]
        ? emit('linear_backward_weight', [x, dpre!], { transposed, accumulate: 0, hasBias: hasBias ? 1 : 0 })
        : [];
    return hasBias ? [dx ?? null, dw ?? null, dbias ?? null] : [dx ?? null, dw ?? null];
  },
  perRank: ['leavesBias'],
  executed: withoutLeftBias,
  shard({ splits, cuts, attributes, inputs, rank }) {
    const cut = cuts[1] ?? null;
    // The dim of the weight that the outputs are.
    const isByColumn = cut?.dim === (attributes.transposed ? 1 : 0);
    if (cut && isByColumn) return { outputs: [cut], shared: [0] };
    const leavesBias = inputs.length === 3 && rank > 0 ? 1 : 0;
    return cut && splits[0] ? { outputs: ['partial'], attributes: { ...attributes, leavesBias } } : { outputs: [null] };
  },
  cost: (op) => productCost(op, op.inputs[0]!, op.outputs[0]!),
};

/** dy[N,O], w, (addend[N,I]) → dx[N,I]. */
export const linearBackwardInput: OpRule = {
  kind: 'linear_backward_input',
  attributes: ['transposed'],
  inPlace: [[0, 2]],
  infer(call) {
    expectInputs(call, [2, 3]);
    const type = storageType(call, 0, 'dy');
    const [rows] = matrix(call, 0, 'dy', type);
    const [outputs, inputs] = weightShape(call, 1, type);
    expectType(call, 'dy', operand(call, 0, 'dy'), [rows, outputs], type);
    const addend = call.inputs[2];
    if (addend) expectType(call, 'addend', addend, [rows, inputs], type);
    return [stored(type, rows, inputs)];
  },
  cost: (op) => productCost(op, op.outputs[0]!, op.inputs[0]!),
};

/** x[N,I], dy[N,O] → dw, (dbias[O], when `hasBias`; only the compiler reads that attribute). */
export const linearBackwardWeight: OpRule = {
  kind: 'linear_backward_weight',
  attributes: ['transposed', 'accumulate'],
  accumulates: [0, 1],
  optionalOutputsFrom: 1,
  infer(call) {
    expectInputs(call, [2], true);
    const type = storageType(call, 0, 'x');
    const [rows, inputs] = matrix(call, 0, 'x', type);
    const [, outputs] = matrix(call, 1, 'dy', type);
    expectType(call, 'dy', operand(call, 1, 'dy'), [rows, outputs], type);
    const dw = attribute(call, 'transposed') ? f32(inputs, outputs) : f32(outputs, inputs);
    return attribute(call, 'hasBias') ? [dw, f32(outputs)] : [dw];
  },
  cost: (op) => productCost(op, op.inputs[0]!, op.inputs[1]!),
};
