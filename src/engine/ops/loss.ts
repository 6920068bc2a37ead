// Output matrix and cross-entropy in one op, by chunks of rows, so that the logits never exist whole.
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
  type PlacedOp,
  totalBytes,
} from './rule.js';

function inferLoss(call: OpCall): readonly [rows: number, width: number, vocabulary: number] {
  const [rows, width] = matrix(call, 0, 'x');
  const [first, second] = matrix(call, 1, 'w');
  const vocabulary = attribute(call, 'transposed') ? second : first;
  expectType(
    call,
    'w',
    operand(call, 1, 'w'),
    attribute(call, 'transposed') ? [width, vocabulary] : [vocabulary, width],
  );
  expectType(call, 'labels', operand(call, 2, 'labels'), [rows], 'i32');
  expectType(call, 'scale', operand(call, 3, 'scale'), [1]);
  return [rows, width, vocabulary];
}

function products(op: PlacedOp, count: number) {
  const [rows, width] = op.inputs[0]!.dims as [number, number];
  const vocabulary = op.outputs.at(-1)!.dims[1]!;
  return { flops: count * 2 * rows * width * vocabulary, bytes: totalBytes(op) };
}

/** Rows per chunk, so that the workspace stays at 64 MiB or one row. */
export function lossChunkRows(rows: number, vocabulary: number): number {
  const chunks = Math.ceil((rows * vocabulary) / 2 ** 24);
  return Math.ceil(rows / chunks);
}

/** x[N,D], w, labels, scale[1] → loss[1] = scale * sum of losses, tokenLosses[N], workspace[chunkRows, V]. */
export const linearCrossEntropy: OpRule = {
  kind: 'linear_cross_entropy',
  attributes: ['transposed', 'chunkRows'],
  workspaces: [2],
  infer(call) {
    expectInputs(call, [4]);
    const [rows, , vocabulary] = inferLoss(call);
    return [f32(1), f32(rows), f32(attribute(call, 'chunkRows'), vocabulary)];
  },
  backward({ kind, path, inputs, attributes, isRoot, emit }) {
    if (!isRoot) throw new Error(`${path} (${kind}): the loss must be the root of the walk`);
    const [, , dx, dw] = emit('linear_cross_entropy_grad', inputs as readonly Tensor[], {
      ...attributes,
      accumulate: 0,
    });
    return [dx!, dw!, null, null];
  },
  cost: (op) => products(op, 1),
};

/** x, w, labels, scale → loss, tokenLosses, dx, dw, workspace: the loss as above, and its gradient. */
export const linearCrossEntropyGrad: OpRule = {
  kind: 'linear_cross_entropy_grad',
  attributes: ['transposed', 'chunkRows', 'accumulate'],
  accumulates: [3],
  workspaces: [4],
  infer(call) {
    expectInputs(call, [4], true);
    const [rows, width, vocabulary] = inferLoss(call);
    const chunk = f32(attribute(call, 'chunkRows'), vocabulary);
    return [f32(1), f32(rows), f32(rows, width), operand(call, 1, 'w'), chunk];
  },
  cost: (op) => products(op, 3),
};
