// Predictions against given numbers: regression, classes that exclude nothing, and gradients that someone else took.
import type { Tensor } from '../graph.js';
import {
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

/** The legend of kinds shared with the executor. */
export const TARGET_LOSSES = { squared_error: 0, binary_cross_entropy: 1, upstream: 2 } as const;
/** The name of a loss against numbers. */
export type TargetLoss = keyof typeof TARGET_LOSSES;

function inferRows(call: OpCall) {
  expectInputs(call, [3]);
  const type = storageType(call, 0, 'x');
  const [rows, columns] = matrix(call, 0, 'x', type);
  expectType(call, 'targets', operand(call, 1, 'targets'), [rows, columns]);
  expectType(call, 'scale', operand(call, 2, 'scale'), [1]);
  return { rows, columns, type };
}

/** x T[N,L], targets[N,L] (NaN: none), scale[1] → loss[1] = scale * sum of row losses, rowLosses[N]. */
export const targetLoss: OpRule = {
  kind: 'target_loss',
  attributes: ['kind'],
  infer(call) {
    const { rows } = inferRows(call);
    return [f32(1), f32(rows)];
  },
  backward({ kind, path, inputs, attributes, isRoot, emit }) {
    if (!isRoot) throw new Error(`${path} (${kind}): a loss must be a root of the walk`);
    const [dx] = emit('target_loss_backward', inputs as readonly Tensor[], attributes);
    return [dx!, null, null];
  },
};

/** As above → dx T[N,L]. */
export const targetLossBackward: OpRule = {
  kind: 'target_loss_backward',
  attributes: ['kind'],
  inPlace: [[0, 0]],
  infer(call) {
    const { rows, columns, type } = inferRows(call);
    return [stored(type, rows, columns)];
  },
};
