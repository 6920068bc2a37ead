// Softmax of rows, and its derivative. Attention and the loss have theirs built in.
import { expectInputs, expectType, matrix, type OpRule, operand, storageType, stored } from './rule.js';

/** x[N,D] → y[N,D]: every row adds up to 1. */
export const softmax: OpRule = {
  kind: 'softmax',
  attributes: [],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [1]);
    const type = storageType(call, 0, 'x');
    return [stored(type, ...matrix(call, 0, 'x', type))];
  },
  backward({ outputs, gradients, emit }) {
    const dy = gradients[0];
    return dy ? emit('softmax_backward', [dy, outputs[0]!]) : [null];
  },
};

/** dy[N,D], y → dx = y * (dy - sum(dy * y)). */
export const softmaxBackward: OpRule = {
  kind: 'softmax_backward',
  attributes: [],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [2]);
    const type = storageType(call, 1, 'y');
    const dims = matrix(call, 1, 'y', type);
    expectType(call, 'dy', operand(call, 0, 'dy'), dims, type);
    return [stored(type, ...dims)];
  },
};
