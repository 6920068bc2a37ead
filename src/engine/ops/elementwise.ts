// Sums, multiples, casts, copies, constants and chosen rows.
import { DTYPE_CODES, floatTypeOf } from '../graph.js';
import {
  alike,
  attribute,
  expectInputs,
  expectType,
  f32,
  matrix,
  type OpRule,
  operand,
  storageType,
  stored,
  vector,
} from './rule.js';

/** y = a + b. */
export const add: OpRule = {
  kind: 'add',
  attributes: [],
  inPlace: [[0, 0]],
  cut: (attributes) => attributes,
  infer(call) {
    expectInputs(call, [2]);
    const a = operand(call, 0, 'a');
    expectType(call, 'b', operand(call, 1, 'b'), a.dims, storageType(call, 0, 'a'));
    return [a];
  },
  backward({ gradients }) {
    const dy = gradients[0] ?? null;
    return [dy, dy];
  },
  columnInputs: () => [0, 1],
  shard: alike,
};

/** y = factor * x. */
export const scale: OpRule = {
  kind: 'scale',
  attributes: ['factor'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [operand(call, 0, 'x')];
  },
  backward({ attributes, gradients, emit }) {
    const dy = gradients[0];
    return dy ? emit('scale', [dy], attributes) : [null];
  },
};

/** y = x in another storage type: the code `to` of the plan format, which only the compiler reads. */
export const cast: OpRule = {
  kind: 'cast',
  attributes: [],
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [stored(floatTypeOf(attribute(call, 'to')), ...operand(call, 0, 'x').dims)];
  },
  backward({ inputs, gradients, emit }) {
    const dy = gradients[0];
    return dy ? emit('cast', [dy], { to: DTYPE_CODES[inputs[0]!.dtype] }) : [null];
  },
};

/** y = x, between the memory of the device and that of the host: on the stream of such copies. */
export const copy: OpRule = {
  kind: 'copy',
  attributes: [],
  moves: 'copy',
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [operand(call, 0, 'x')];
  },
};

/** → y, every element `value`. `elements` is the length of y; only the compiler reads it. */
export const fill: OpRule = {
  kind: 'fill',
  attributes: ['value'],
  cut: (attributes, _start, elements) => ({ ...attributes, elements }),
  infer(call) {
    expectInputs(call, [0]);
    return [f32(attribute(call, 'elements'))];
  },
};

/** y[M,D] = x[index]. Not differentiable: only decoding uses it. */
export const gatherRows: OpRule = {
  kind: 'gather_rows',
  attributes: [],
  infer(call) {
    expectInputs(call, [2]);
    const type = storageType(call, 0, 'x');
    const [, width] = matrix(call, 0, 'x', type);
    return [stored(type, vector(call, 1, 'index', 'i32'), width)];
  },
};
