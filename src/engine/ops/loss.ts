// Output matrix and cross-entropy in one op, by chunks of rows, so that the logits never exist whole.
import type { Tensor } from '../graph.js';
import { heldLength, partOf } from '../shard.js';
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
  type ShardCall,
  type ShardedOp,
  storageType,
  stored,
  totalBytes,
} from './rule.js';

function inferLoss(call: OpCall) {
  const type = storageType(call, 0, 'x');
  const [rows, width] = matrix(call, 0, 'x', type);
  const [first, second] = matrix(call, 1, 'w', type);
  const vocabulary = attribute(call, 'transposed') ? second : first;
  expectType(
    call,
    'w',
    operand(call, 1, 'w'),
    attribute(call, 'transposed') ? [width, vocabulary] : [vocabulary, width],
    type,
  );
  expectType(call, 'labels', operand(call, 2, 'labels'), [rows], 'i32');
  expectType(call, 'scale', operand(call, 3, 'scale'), [1]);
  const hasBias = attribute(call, 'hasBias');
  if (hasBias) expectType(call, 'bias', operand(call, 4, 'bias'), [vocabulary], type);
  if (attribute(call, 'weighted')) expectType(call, 'weights', operand(call, 4 + hasBias, 'weights'), [rows]);
  return { rows, width, vocabulary, type };
}

/**
 * Of a vocabulary that is parted over `ranks`: this one has the entries from `start` on, `columns` of `entries`. Only the compiler reads them: the op
 * becomes those of ops/vocabulary-loss.ts.
 */
const PART = ['start', 'columns', 'entries', 'rank', 'ranks'] as const;

function shardLoss({ inputs, cuts, attributes, ranks, rank }: ShardCall): ShardedOp {
  const cut = cuts[1]!;
  const size = heldLength(cut);
  const start = partOf(cut, rank) * size;
  const entries = cut.dims[cut.dim]!;
  const columns = Math.max(0, Math.min(size, entries - start));
  const chunkRows = lossChunkRows(inputs[0]!.dims[0]!, size);
  return {
    outputs: [null, null, null, null],
    attributes: { ...attributes, chunkRows, start, columns, entries, rank, ranks },
    shared: [0],
  };
}

function products(op: PlacedOp, count: number) {
  const { rows, width, vocabulary } = inferLoss(op);
  return { flops: count * 2 * rows * width * vocabulary, bytes: totalBytes(op) };
}

/** Rows per chunk, so that the workspace stays at 64 MiB or one row. */
export function lossChunkRows(rows: number, vocabulary: number): number {
  const chunks = Math.ceil((rows * vocabulary) / 2 ** 24);
  return Math.ceil(rows / chunks);
}

/**
 * x[N,D], w, labels, scale[1], (bias[V]), (weights[N]) → loss[1] = scale * sum of weighted losses, tokenLosses[N] (without
 * weights), workspace[chunkRows, V], (entropies[N]). With the gradient of any function of the log-probabilities as weights
 * this is that function's gradient (times -1). `hasBias` concerns the number of inputs; only the compiler reads it.
 */
export const linearCrossEntropy: OpRule = {
  kind: 'linear_cross_entropy',
  attributes: ['transposed', 'chunkRows', 'labelSmoothing', 'zLoss', 'weighted'],
  optionalOutputsFrom: 3,
  workspaces: [2],
  perRank: PART,
  shard: shardLoss,
  shardRows: ({ inputs, attributes }) => ({
    ...attributes,
    chunkRows: lossChunkRows(inputs[0]!.dims[0]!, inputs[1]!.dims[attributes.transposed ? 1 : 0]!),
  }),
  infer(call) {
    expectInputs(call, [4 + attribute(call, 'hasBias') + attribute(call, 'weighted')]);
    const { rows, vocabulary } = inferLoss(call);
    return [f32(1), f32(rows), f32(attribute(call, 'chunkRows'), vocabulary), f32(rows)];
  },
  backward({ kind, path, inputs, attributes, isRoot, emit }) {
    if (!isRoot) throw new Error(`${path} (${kind}): the loss must be the root of the walk`);
    const [, , dx, , dw, dbias] = emit('linear_cross_entropy_grad', inputs as readonly Tensor[], {
      ...attributes,
      accumulate: 0,
    });
    return [dx!, dw!, null, null, ...(dbias ? [dbias] : []), ...(attributes.weighted ? [null] : [])];
  },
  cost: (op) => products(op, 1),
};

/** As above → loss, tokenLosses, dx, workspace, (dw, (dbias)): the loss, and its gradient by what is trained. */
export const linearCrossEntropyGrad: OpRule = {
  kind: 'linear_cross_entropy_grad',
  attributes: ['transposed', 'chunkRows', 'accumulate', 'labelSmoothing', 'zLoss', 'weighted'],
  accumulates: [4, 5],
  optionalOutputsFrom: 4,
  workspaces: [3],
  perRank: PART,
  infer(call) {
    const hasBias = attribute(call, 'hasBias');
    expectInputs(call, [4 + hasBias + attribute(call, 'weighted')], true);
    const { rows, width, vocabulary, type } = inferLoss(call);
    const chunk = f32(attribute(call, 'chunkRows'), vocabulary);
    const gradients = [f32(...operand(call, 1, 'w').dims), ...(hasBias ? [f32(vocabulary)] : [])];
    return [f32(1), f32(rows), stored(type, rows, width), chunk, ...gradients];
  },
  cost: (op) => products(op, op.outputs.length > 4 ? 3 : 2),
};
