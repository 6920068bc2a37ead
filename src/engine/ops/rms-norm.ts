// y = x * rstd * gain per row with rstd = 1 / sqrt(mean(x²) + eps), alone or behind a residual sum, and its derivative.
import type { FloatType, Tensor } from '../graph.js';
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
  vector,
} from './rule.js';

/** How many times the gain fits into a row: each part (a head of q or k) is a row of the norm of its own. */
function partsPerRow(call: OpCall, width: number, gainIndex: number, type: FloatType): number {
  const parts = width / vector(call, gainIndex, 'gain', type);
  if (!Number.isInteger(parts)) expectType(call, 'gain', operand(call, gainIndex, 'gain'), [width], type);
  return parts;
}

function inferNorm(call: OpCall, gainIndex: number) {
  const type = storageType(call, 0, 'x');
  const [rows, width] = matrix(call, 0, 'x', type);
  return [stored(type, rows, width), f32(rows * partsPerRow(call, width, gainIndex, type))];
}

/** x[N,D], gain[D / parts] → y[N,D], rstd[N * parts]. */
export const rmsNorm: OpRule = {
  kind: 'rms_norm',
  attributes: ['eps'],
  infer(call) {
    expectInputs(call, [2]);
    return inferNorm(call, 1);
  },
  backward({ inputs, outputs, gradients, emit }) {
    const [x, gain] = inputs as [Tensor, Tensor];
    const dy = gradients[0];
    if (!dy) return [null, null];
    return emit('rms_norm_backward', [dy, x, gain, outputs[1]!], { accumulate: 0, hasAddend: 0 });
  },
  // Of each head on its own.
  columnInputs: ({ inputs }) => (inputs[1]!.dims[0]! < inputs[0]!.dims[1]! ? [0] : []),
  demand: ({ inputs }, _input, split) =>
    (inputs[0]!.dims[1]! / inputs[1]!.dims[0]!) % (split.blocks * split.parts) === 0 ? split : null,
  shard: ({ splits }) => ({ outputs: [splits[0]!, null], shared: [1] }),
};

/** x, r, gain → sum = x + r, y = norm(sum), rstd. */
export const addRmsNorm: OpRule = {
  kind: 'add_rms_norm',
  attributes: ['eps'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [3]);
    const type = storageType(call, 0, 'x');
    const [rows, width] = matrix(call, 0, 'x', type);
    expectType(call, 'r', operand(call, 1, 'r'), [rows, width], type);
    return [stored(type, rows, width), ...inferNorm(call, 2)];
  },
  shortcut: ({ inputs, outputs, attributes }) => ({
    from: 0,
    outputs: [1, 2],
    kind: 'rms_norm',
    inputs: [outputs[0]!, inputs[2]!],
    attributes,
  }),
  backward({ inputs, outputs, gradients, emit }) {
    const [dsum, dy] = gradients;
    if (!dy) return [dsum ?? null, dsum ?? null, null];
    const operands = [dy, outputs[0]!, inputs[2]!, outputs[2]!];
    const [dx, dgain] = emit('rms_norm_backward', dsum ? [...operands, dsum] : operands, {
      accumulate: 0,
      hasAddend: dsum ? 1 : 0,
    });
    return [dx!, dx!, dgain!];
  },
};

/** dy, x, gain, rstd, (addend) → dx (+ addend), dgain. */
export const rmsNormBackward: OpRule = {
  kind: 'rms_norm_backward',
  attributes: ['accumulate', 'hasAddend'],
  accumulates: [1],
  inPlace: [
    [0, 4],
    [0, 0],
  ],
  infer(call) {
    const addends = attribute(call, 'hasAddend');
    expectInputs(call, [4 + addends], true);
    const type = storageType(call, 1, 'x');
    const [rows, width] = matrix(call, 1, 'x', type);
    expectType(call, 'dy', operand(call, 0, 'dy'), [rows, width], type);
    const parts = partsPerRow(call, width, 2, type);
    expectType(call, 'rstd', operand(call, 3, 'rstd'), [rows * parts]);
    if (addends) expectType(call, 'addend', operand(call, 4, 'addend'), [rows, width], type);
    return [stored(type, rows, width), f32(width / parts)];
  },
};
