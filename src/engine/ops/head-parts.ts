// Heads dealt out to the ranks of a sequence group and back: what lies on either side of an all_to_all around attention
// (DeepSpeed-Ulysses, arXiv:2309.14509). Attributes say where head h begins in a row, as those of attention do.
import type { Tensor } from '../graph.js';
import { expectHeads } from './attention.js';
import {
  attribute,
  expectInputs,
  expectType,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
  type TensorType,
} from './rule.js';

const ATTRIBUTES = [
  'parts',
  'heads',
  'kvHeads',
  'headDim',
  'qOffset',
  'qHeadStride',
  'kOffset',
  'kHeadStride',
  'vOffset',
  'vHeadStride',
] as const;

/** Columns of what one part has of a row. */
function widthOf(call: OpCall): number {
  const parts = attribute(call, 'parts');
  const kvHeads = attribute(call, 'kvHeads');
  const kv = kvHeads === 0 ? 0 : Math.max(1, kvHeads / parts);
  return (attribute(call, 'heads') / parts + 2 * kv) * attribute(call, 'headDim');
}

/** q[N,*], (k[N,*], v[N,*], unless kvHeads is 0) → y[parts*N, W]: for each part in turn all rows with its heads alone, q, then k, then v. */
export const headsToParts: OpRule = {
  kind: 'heads_to_parts',
  attributes: ATTRIBUTES,
  infer(call) {
    const kvHeads = attribute(call, 'kvHeads');
    expectInputs(call, [kvHeads === 0 ? 1 : 3]);
    const type = storageType(call, 0, 'q');
    const rows = expectHeads(call, 'q', 0, attribute(call, 'heads'), type);
    if (kvHeads > 0) {
      expectHeads(call, 'k', 1, kvHeads, type);
      expectHeads(call, 'v', 2, kvHeads, type);
    }
    return [stored(type, attribute(call, 'parts') * rows, widthOf(call))];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const dy = gradients[0];
    if (!dy) return inputs.map(() => null);
    const [q, k = q, v = q] = inputs as [Tensor, Tensor?, Tensor?];
    const isFused = q.id === k.id ? 1 : 0;
    const widths = { qWidth: q.dims[1]!, kWidth: k.dims[1]!, vWidth: v.dims[1]!, isFused };
    const outputs = emit('parts_to_heads', [dy], { ...attributes, ...widths });
    // One fused tensor gets its whole gradient once.
    return inputs.map((_, index) => (index === 0 || !isFused ? outputs[index]! : null));
  },
};

/**
 * y[parts*N, W] → q[N, qWidth], (k[N, kWidth], v[N, vWidth]), one tensor where `isFused`: the inverse; a head of k or v that several parts have becomes
 * the sum of theirs. The widths and `isFused` only the compiler reads.
 */
export const partsToHeads: OpRule = {
  kind: 'parts_to_heads',
  attributes: ATTRIBUTES,
  infer(call) {
    expectInputs(call, [1]);
    const type = storageType(call, 0, 'y');
    const y = operand(call, 0, 'y');
    const rows = y.dims[0]! / attribute(call, 'parts');
    expectType(call, 'y', y, [rows * attribute(call, 'parts'), widthOf(call)], type);
    const names = attribute(call, 'kvHeads') === 0 ? ['qWidth'] : ['qWidth', 'kWidth', 'vWidth'];
    return names.map((name): TensorType => stored(type, rows, attribute(call, name)));
  },
  outputGroups: ({ attributes }) => (attributes.kvHeads === 0 ? [0] : attributes.isFused ? [0, 0, 0] : [0, 1, 2]),
  backward({ attributes, gradients, emit }) {
    const dq = gradients[0];
    return dq && attributes.kvHeads === 0 ? emit('heads_to_parts', [dq], attributes) : [null];
  },
};
