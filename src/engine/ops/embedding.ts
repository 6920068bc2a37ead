// Rows of a table by id, optionally added to another tensor; and the gradient of the table. Id i is entry i + offset. Rows of
// the padding id (-1: none) are looked up as any other, but give the table no gradient, as in PyTorch.
import type { Tensor } from '../graph.js';
import { heldLength, partOf } from '../shard.js';
import {
  attribute,
  expectInputs,
  expectType,
  f32,
  matrix,
  type OpRule,
  operand,
  storageType,
  stored,
  totalBytes,
  vector,
} from './rule.js';

/** Of a table that holds the entries from `start` on of `entries` alone; the others are looked up as 0. */
const PART = ['start', 'entries'] as const;

/** y[N,D] = table[ids + offset] (+ addend). `paddingId` concerns the derivative alone; only the compiler reads it. */
export const embedding: OpRule = {
  kind: 'embedding',
  attributes: ['offset'],
  optionalAttributes: PART,
  perRank: PART,
  inPlace: [[0, 2]],
  infer(call) {
    expectInputs(call, [2, 3]);
    const rows = vector(call, 0, 'ids', 'i32');
    const type = storageType(call, 1, 'table');
    const [, width] = matrix(call, 1, 'table', type);
    const addend = call.inputs[2];
    if (addend) expectType(call, 'addend', addend, [rows, width], type);
    return [stored(type, rows, width)];
  },
  backward({ inputs, attributes, gradients, needs, emit }) {
    const [ids, table] = inputs as [Tensor, Tensor];
    const dy = gradients[0] ?? null;
    const [dtable] =
      dy && needs[1]
        ? emit('embedding_backward', [ids, dy], { ...attributes, accumulate: 0, rows: table.dims[0]! })
        : [];
    return [null, dtable ?? null, ...(inputs.length === 3 ? [needs[2] ? dy : null] : [])];
  },
  shard({ path, kind, inputs, cuts, attributes, rank }) {
    const cut = cuts[1];
    if (!cut || inputs.length > 2) throw new Error(`${path} (${kind}): only a table without an addend is cut`);
    return {
      outputs: ['partial'],
      attributes: { ...attributes, start: partOf(cut, rank) * heldLength(cut), entries: cut.dims[0]! },
    };
  },
};

/** dtable[V,D] = sum of dy by entry. `rows` is V; only the compiler reads it. */
export const embeddingBackward: OpRule = {
  kind: 'embedding_backward',
  attributes: ['accumulate', 'offset', 'paddingId'],
  optionalAttributes: PART,
  perRank: PART,
  accumulates: [0],
  infer(call) {
    expectInputs(call, [2], true);
    const rows = vector(call, 0, 'ids', 'i32');
    const type = storageType(call, 1, 'dy');
    const [dyRows, width] = matrix(call, 1, 'dy', type);
    expectType(call, 'dy', operand(call, 1, 'dy'), [rows, width], type);
    return [f32(attribute(call, 'rows'), dyRows === 0 ? 0 : width)];
  },
  cost: (op) => ({ flops: op.inputs[1]!.dims.reduce((a, b) => a * b, 1), bytes: totalBytes(op) }),
};
