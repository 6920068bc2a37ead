// The update half of a step: norm, clipping factor, AdamW on flat slices.
import { floatTypeOf } from '../graph.js';
import {
  attribute,
  expectInputs,
  expectType,
  f32,
  type OpCall,
  type OpRule,
  operand,
  stored,
  type TensorType,
  vector,
} from './rule.js';

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

/** What an optimiser writes besides its masters: the parameters themselves, where they are 16-bit numbers. */
function roundedCopy(call: OpCall, length: number): readonly TensorType[] {
  const type = floatTypeOf(attribute(call, 'rounded'));
  return type === 'f32' ? [] : [stored(type, length)];
}

/**
 * p[n], m[n], v[n], g[n], factor[1], lr[1], step[1] → p, m, v on the same bytes, (p rounded to a 16-bit type: the code
 * `rounded`, that of f32 for none; only the compiler reads it). Decoupled decay, arXiv:1711.05101.
 */
export const adamw: OpRule = {
  kind: 'adamw',
  attributes: ['beta1', 'beta2', 'eps', 'weightDecay', 'decayEnd', 'adamWMode', 'biasCorrection'],
  updates: [
    [0, 0],
    [1, 1],
    [2, 2],
  ],
  infer(call) {
    expectInputs(call, [7]);
    const length = vector(call, 0, 'p');
    for (const [index, name] of [
      [1, 'm'],
      [2, 'v'],
      [3, 'g'],
    ] as const) {
      expectType(call, name, operand(call, index, name), [length]);
    }
    for (const [index, name] of [
      [4, 'factor'],
      [5, 'lr'],
      [6, 'step'],
    ] as const) {
      expectType(call, name, operand(call, index, name), [1]);
    }
    return [f32(length), f32(length), f32(length), ...roundedCopy(call, length)];
  },
  cost: (op) => ({ flops: 14 * op.inputs[0]!.dims[0]!, bytes: 28 * op.inputs[0]!.dims[0]! }),
};
