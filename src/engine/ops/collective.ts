// Exchanges between the ranks of a group. They run on the communication stream.
import { expectInputs, f32, type OpRule, storageType, stored, vector } from './rule.js';

/** x[n] → the sum (op 0) or largest (op 1) of all ranks, on the same bytes. */
export const allReduce: OpRule = {
  kind: 'all_reduce',
  attributes: ['group', 'op'],
  updates: [[0, 0]],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    return [f32(vector(call, 0, 'x'))];
  },
};

/** x[size*n] → slice[n] with the sum, inside x at rank*n. `slice` is n; only the compiler reads it. */
export const reduceScatter: OpRule = {
  kind: 'reduce_scatter',
  attributes: ['group'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    vector(call, 0, 'x');
    return [f32(call.attributes.slice!)];
  },
};

/** slice[n], inside y at rank*n → y[size*n]. `whole` is size*n; only the compiler reads it. */
export const allGather: OpRule = {
  kind: 'all_gather',
  attributes: ['group'],
  isCollective: true,
  infer(call) {
    expectInputs(call, [1]);
    const type = storageType(call, 0, 'slice');
    vector(call, 0, 'slice', type);
    return [stored(type, call.attributes.whole!)];
  },
};
