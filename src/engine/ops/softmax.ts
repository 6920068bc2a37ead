// Softmax of rows and its derivative, and what choosing a token asks of logits. Attention and the loss have theirs built in.
import { expectInputs, expectType, f32, matrix, type OpRule, operand, storageType, stored } from './rule.js';

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

/** x[N,V] → index i32[N] of the first of the largest, top[N] its value, logSum[N] = log Σ exp(x - top). */
export const logSumExp: OpRule = {
  kind: 'log_sum_exp',
  attributes: [],
  infer(call) {
    expectInputs(call, [1]);
    const [rows] = matrix(call, 0, 'x');
    return [{ dtype: 'i32', dims: [rows] }, f32(rows), f32(rows)];
  },
};
