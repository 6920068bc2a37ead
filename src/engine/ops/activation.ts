// Elementwise non-linearities, alone or as a gate, and their derivatives.
import type { Tensor } from '../graph.js';
import {
  alike,
  defaultCost,
  expectInputs,
  expectType,
  type OpRule,
  operand,
  type PlacedOp,
  storageType,
} from './rule.js';

const costly = (op: PlacedOp) => ({ ...defaultCost(op), flops: 10 * defaultCost(op).flops });

/** y = act(x). */
export const activation: OpRule = {
  kind: 'activation',
  attributes: ['kind'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [operand(call, 0, 'x')];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const dy = gradients[0];
    return dy ? emit('activation_backward', [dy, inputs[0]!], { kind: attributes.kind! }) : [null];
  },
  columnInputs: () => [0],
  shard: alike,
  cost: costly,
};

/** dx = dy * act'(x). */
export const activationBackward: OpRule = {
  kind: 'activation_backward',
  attributes: ['kind'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [2]);
    const x = operand(call, 1, 'x');
    expectType(call, 'dy', operand(call, 0, 'dy'), x.dims, storageType(call, 1, 'x'));
    return [x];
  },
  cost: costly,
};

/** y = act(gate) * up. */
export const gatedActivation: OpRule = {
  kind: 'gated_activation',
  attributes: ['kind'],
  infer(call) {
    expectInputs(call, [2]);
    const gate = operand(call, 0, 'gate');
    expectType(call, 'up', operand(call, 1, 'up'), gate.dims, storageType(call, 0, 'gate'));
    return [gate];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const [gate, up] = inputs as [Tensor, Tensor];
    const dy = gradients[0];
    return dy ? emit('gated_activation_backward', [dy, gate, up], { kind: attributes.kind! }) : [null, null];
  },
  columnInputs: () => [0, 1],
  shard: alike,
  cost: costly,
};

/** dgate = dy * up * act'(gate), dup = dy * act(gate). */
export const gatedActivationBackward: OpRule = {
  kind: 'gated_activation_backward',
  attributes: ['kind'],
  inPlace: [
    [0, 1],
    [0, 0],
    [1, 2],
  ],
  infer(call) {
    expectInputs(call, [3]);
    const gate = operand(call, 1, 'gate');
    const type = storageType(call, 1, 'gate');
    expectType(call, 'dy', operand(call, 0, 'dy'), gate.dims, type);
    expectType(call, 'up', operand(call, 2, 'up'), gate.dims, type);
    return [gate, gate];
  },
  cost: costly,
};
