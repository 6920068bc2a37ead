// y = (x - mean) * rstd * gain + bias per row, alone or behind a residual sum, and its derivative.
import type { Tensor } from '../graph.js';
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
} from './rule.js';

function inferNorm(call: OpCall, gainIndex: number) {
  const type = storageType(call, 0, 'x');
  const [rows, width] = matrix(call, 0, 'x', type);
  expectType(call, 'gain', operand(call, gainIndex, 'gain'), [width], type);
  expectType(call, 'bias', operand(call, gainIndex + 1, 'bias'), [width], type);
  return [stored(type, rows, width), f32(rows), f32(rows)];
}

/** x[N,D], gain[D], bias[D] → y[N,D], mean[N], rstd[N]. */
export const layerNorm: OpRule = {
  kind: 'layer_norm',
  attributes: ['eps'],
  infer(call) {
    expectInputs(call, [3]);
    return inferNorm(call, 1);
  },
  backward({ inputs, outputs, gradients, emit }) {
    const [x, gain] = inputs as [Tensor, Tensor];
    const dy = gradients[0];
    if (!dy) return [null, null, null];
    return emit('layer_norm_backward', [dy, x, gain, outputs[1]!, outputs[2]!], { accumulate: 0, hasAddend: 0 });
  },
};

/** x, r, gain, bias → sum = x + r, y = norm(sum), mean, rstd. */
export const addLayerNorm: OpRule = {
  kind: 'add_layer_norm',
  attributes: ['eps'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [4]);
    const type = storageType(call, 0, 'x');
    const [rows, width] = matrix(call, 0, 'x', type);
    expectType(call, 'r', operand(call, 1, 'r'), [rows, width], type);
    return [stored(type, rows, width), ...inferNorm(call, 2)];
  },
  shortcut: ({ inputs, outputs, attributes }) => ({
    from: 0,
    outputs: [1, 2, 3],
    kind: 'layer_norm',
    inputs: [outputs[0]!, inputs[2]!, inputs[3]!],
    attributes,
  }),
  backward({ inputs, outputs, gradients, emit }) {
    const [dsum, dy] = gradients;
    // Both terms of a sum get the gradient of the sum.
    if (!dy) return [dsum ?? null, dsum ?? null, null, null];
    const operands = [dy, outputs[0]!, inputs[2]!, outputs[2]!, outputs[3]!];
    const [dx, dgain, dbias] = emit('layer_norm_backward', dsum ? [...operands, dsum] : operands, {
      accumulate: 0,
      hasAddend: dsum ? 1 : 0,
    });
    return [dx!, dx!, dgain!, dbias!];
  },
};

/** dy, x, gain, mean, rstd, (addend) → dx (+ addend), dgain, dbias. */
export const layerNormBackward: OpRule = {
  kind: 'layer_norm_backward',
  attributes: ['accumulate', 'hasAddend'],
  accumulates: [1, 2],
  inPlace: [
    [0, 5],
    [0, 0],
  ],
  infer(call) {
    const addends = attribute(call, 'hasAddend');
    expectInputs(call, [5 + addends], true);
    const type = storageType(call, 1, 'x');
    const [rows, width] = matrix(call, 1, 'x', type);
    expectType(call, 'dy', operand(call, 0, 'dy'), [rows, width], type);
    expectType(call, 'gain', operand(call, 2, 'gain'), [width], type);
    expectType(call, 'mean', operand(call, 3, 'mean'), [rows]);
    expectType(call, 'rstd', operand(call, 4, 'rstd'), [rows]);
    if (addends) expectType(call, 'addend', operand(call, 5, 'addend'), [rows, width], type);
    return [stored(type, rows, width), f32(width), f32(width)];
  },
};
