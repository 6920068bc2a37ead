// The update half of a step before the optimisers: the norm over all gradients and what it clips them by.
import { expectInputs, expectType, f32, type OpRule, operand, vector } from './rule.js';

/** g[n] → s[1], summed in double; with `accumulate`, g[n], s → s + … on the same bytes. */
export const sumSquares: OpRule = {
  kind: 'sum_squares',
  attributes: ['accumulate'],
  infer(call) {
    expectInputs(call, [1]);
    vector(call, 0, 'g');
    return [f32(1)];
  },
  cost: (op) => ({ flops: 2 * op.inputs[0]!.dims[0]!, bytes: 4 * op.inputs[0]!.dims[0]! }),
};

/**
 * s[1], (lossScale[1]) → norm[1] = sqrt(s) / lossScale, factor[1] = min(1, maxNorm / (norm + 1e-6)) / lossScale; maxNorm 0 means
 * no clipping. A norm that is not finite gives the factor NaN, with which optimisers leave everything as it is.
 */
export const clipFactor: OpRule = {
  kind: 'clip_factor',
  attributes: ['maxNorm'],
  infer(call) {
    expectInputs(call, [1, 2]);
    expectType(call, 's', operand(call, 0, 's'), [1]);
    if (call.inputs[1]) expectType(call, 'lossScale', call.inputs[1], [1]);
    return [f32(1), f32(1)];
  },
};
