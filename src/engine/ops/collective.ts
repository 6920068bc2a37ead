// Exchanges between the ranks of a group. They run on the communication stream. Reductions sum in f32, in the order of ranks;
// what is only moved may be of any type.
import { elementCount } from '../graph.js';
import {
  attribute,
  expectInputs,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
  type TensorType,
} from './rule.js';

const typeOf = (call: OpCall, index: number, name: string): TensorType => {
  const { dtype, dims } = operand(call, index, name);
  return { dtype, dims };
};

/** x T → the sum (op 0) or largest (op 1) of all ranks, on the same bytes. Every rank goes on with the sum: its gradient is that of each term. */
export const allReduce: OpRule = {
  kind: 'all_reduce',
  attributes: ['group', 'op'],
  updates: [[0, 0]],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [typeOf(call, 0, 'x')];
  },
  backward: ({ gradients }) => [gradients[0] ?? null],
};

/**
 * x T[size*n] → slice T[n] with the sum, inside x at rank*n. `slice` is n, and only the compiler reads it, as `columns`: those of a slice that is a
 * matrix of its own, outside of x, which is scratch from then on (the second output). Where all ranks have the same (`alike`, each a part of it) the whole gradient is
 * that of each.
 */
export const reduceScatter: OpRule = {
  kind: 'reduce_scatter',
  attributes: ['group'],
  isCollective: true,
  updates: ({ attributes }) => (attributes.columns === undefined ? [] : [[1, 0]]),
  workspaces: [1],
  infer(call) {
    expectInputs(call, [1]);
    const type = storageType(call, 0, 'x');
    const slice = attribute(call, 'slice');
    const { columns } = call.attributes;
    return columns === undefined
      ? [stored(type, slice)]
      : [stored(type, slice / columns, columns), typeOf(call, 0, 'x')];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const { group, slice, columns, alike } = attributes as Readonly<
      Record<'group' | 'slice' | 'columns' | 'alike', number>
    >;
    if (!gradients[0]) return [null];
    const whole = elementCount(inputs[0]!.dims);
    const gathered = emit('all_gather', [gradients[0]], { group, whole, columns });
    return alike ? emit('scale', gathered, { factor: whole / slice }) : gathered;
  },
};

/** slice[n], inside y at rank*n or outside y → y[size*n]. `whole` is size*n, `columns` those of y where it is a matrix; only the compiler reads them. The
 * gradient of x is the sum of what the ranks find, or, where they go the same way with y (`alike`), what each of them finds. */
export const allGather: OpRule = {
  kind: 'all_gather',
  attributes: ['group'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    const { dtype } = operand(call, 0, 'slice');
    const { columns } = call.attributes;
    const whole = attribute(call, 'whole');
    return [{ dtype, dims: columns === undefined ? [whole] : [whole / columns, columns] }];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const { group, columns, whole, alike } = attributes as Readonly<
      Record<'group' | 'columns' | 'whole' | 'alike', number>
    >;
    if (!gradients[0]) return [null];
    const slice = elementCount(inputs[0]!.dims);
    const [terms] = alike ? emit('scale', [gradients[0]], { factor: slice / whole }) : [gradients[0]];
    return [emit('reduce_scatter', [terms!], { group, slice, columns })[0]!];
  },
};

/** x[size*n] → y[size*n]: slice p goes to rank p, where it is slice `rank`. Slices are of the elements in row-major order. */
export const allToAll: OpRule = {
  kind: 'all_to_all',
  attributes: ['group'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    return [typeOf(call, 0, 'x')];
  },
  backward: ({ attributes, gradients, emit }) =>
    gradients[0] ? emit('all_to_all', [gradients[0]], attributes) : [null],
};

/** x → what rank `root` of the group has, on the same bytes. */
export const broadcast: OpRule = {
  kind: 'broadcast',
  attributes: ['group', 'root'],
  updates: [[0, 0]],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    return [typeOf(call, 0, 'x')];
  },
};

/** x → nothing here; rank `to` of the group receives it. */
export const send: OpRule = {
  kind: 'send',
  attributes: ['group', 'to'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    operand(call, 0, 'x');
    return [];
  },
};

/** y → what rank `from` of the group sends, on the same bytes. */
export const recv: OpRule = {
  kind: 'recv',
  attributes: ['group', 'from'],
  updates: [[0, 0]],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    return [typeOf(call, 0, 'y')];
  },
};

/** x, y → y: sends x and receives y at the same time, so that two ranks may do so with each other. */
export const sendRecv: OpRule = {
  kind: 'send_recv',
  attributes: ['group', 'to', 'from'],
  updates: [[0, 1]],
  isCollective: true,
  infer(call) {
    expectInputs(call, [2]);
    operand(call, 0, 'x');
    return [typeOf(call, 1, 'y')];
  },
};

/** Nothing passes it before all ranks of the group have come. */
export const barrier: OpRule = {
  kind: 'barrier',
  attributes: ['group'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [0]);
    return [];
  },
};

/**
 * x on every rank of a group, each of which goes its own way with it: the gradient is the sum of what they find. Only the compiler knows it: once
 * the backward is written, x itself takes its place.
 */
export const fanOut: OpRule = {
  kind: 'fan_out',
  attributes: ['group'],
  isErased: true,
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    return [operand(call, 0, 'x')];
  },
  backward({ attributes, gradients, emit }) {
    const dy = gradients[0];
    return dy ? emit('all_reduce', [dy], { ...attributes, op: 0 }) : [null];
  },
};
