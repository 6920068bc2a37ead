// Output matrix and cross-entropy over a vocabulary that is parted among ranks, one chunk of rows at a time: each rank makes its part of
// the logits, the ranks add up a few numbers per row, and each goes on with its part (Megatron-LM, arXiv:1909.08053 §3).
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
  storageType,
  stored,
  totalBytes,
} from './rule.js';

/** Numbers per row and rank: largest logit, sum of exponentials under it, the label's, sum, spread. */
const STATS = 5;
const PART = ['entries', 'start', 'columns', 'rank'] as const;
const PER_RANK = ['start', 'columns', 'rank'] as const;

function inferHead(call: OpCall) {
  const type = storageType(call, 0, 'x');
  const [rows, width] = matrix(call, 0, 'x', type);
  const [first, second] = matrix(call, 1, 'w', type);
  const isTransposed = attribute(call, 'transposed') === 1;
  const part = isTransposed ? second : first;
  expectType(call, 'w', operand(call, 1, 'w'), isTransposed ? [width, part] : [part, width], type);
  expectType(call, 'labels', operand(call, 2, 'labels'), [rows], 'i32');
  return { type, rows, width, part };
}

function products(op: PlacedOp, count: number) {
  const { width, part } = inferHead(op);
  return { flops: count * 2 * attribute(op, 'chunkRows') * width * part, bytes: totalBytes(op) };
}

/** x[N,D], w, labels, (bias[V]) → logits[chunkRows,V], stats[ranks,5,chunkRows]: 0 but for this rank's, to be summed over ranks. */
export const vocabularyLogits: OpRule = {
  kind: 'vocabulary_logits',
  attributes: ['transposed', 'chunk', ...PART, 'spread'],
  perRank: PER_RANK,
  infer(call) {
    expectInputs(call, [3, 4]);
    const { type, part } = inferHead(call);
    if (call.inputs[3]) expectType(call, 'bias', call.inputs[3], [part], type);
    const chunk = attribute(call, 'chunkRows');
    return [f32(chunk, part), f32(attribute(call, 'ranks'), STATS, chunk)];
  },
  cost: (op) => products(op, 1),
};

/** stats (of all ranks), labels, scale[1], (weights[N]) → loss[1], tokenLosses[N], (entropies[N]). Chunks after the first add to what is there. */
export const vocabularyLoss: OpRule = {
  kind: 'vocabulary_loss',
  attributes: ['chunk', 'entries', 'labelSmoothing', 'zLoss'],
  optionalOutputsFrom: 2,
  infer(call) {
    expectInputs(call, [3, 4]);
    const [rows] = operand(call, 1, 'labels').dims as [number];
    return [f32(1), f32(rows), f32(rows)];
  },
};

/**
 * x, w, labels, scale[1], (weights[N]), logits (whose bytes it takes), stats, beta[1] → loss[1], tokenLosses[N], dx[N,D], logits, (dw, (dbias)): this
 * rank's terms of dx. Chunks after the first add to what is there.
 */
export const vocabularyLossGrad: OpRule = {
  kind: 'vocabulary_loss_grad',
  attributes: ['transposed', 'chunk', ...PART, 'labelSmoothing', 'zLoss', 'weighted', 'accumulate'],
  perRank: PER_RANK,
  updates: ({ attributes }) => [[3, 4 + attributes.weighted!]],
  optionalOutputsFrom: 4,
  workspaces: [3],
  infer(call) {
    const weighted = attribute(call, 'weighted');
    expectInputs(call, [7 + weighted]);
    const { type, rows, width, part } = inferHead(call);
    const gradients = [f32(...operand(call, 1, 'w').dims), ...(attribute(call, 'hasBias') ? [f32(part)] : [])];
    return [f32(1), f32(rows), stored(type, rows, width), operand(call, 4 + weighted, 'logits'), ...gradients];
  },
  cost: (op) => products(op, op.outputs.length > 4 ? 2 : 1),
};
