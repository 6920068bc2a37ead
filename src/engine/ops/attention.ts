// Softmax attention over packed segments, and its derivative. Attributes say where head h begins in a row:
// offset + h * headStride, so that fused and separate projections are the same op.
import { ConfigError } from '../../common/index.js';
import type { FloatType } from '../graph.js';
import { expectDropout } from './dropout.js';
import {
  attribute,
  expectInputs,
  expectType,
  f32,
  matrix,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
  totalBytes,
} from './rule.js';
import { demandOfHeads, shardHeads, splitOfHeads } from './shard-heads.js';

const ATTRIBUTES = [
  'heads',
  'kvHeads',
  'headDim',
  'scale',
  'causal',
  'window',
  'qOffset',
  'qHeadStride',
  'kOffset',
  'kHeadStride',
  'vOffset',
  'vHeadStride',
] as const;
/** Of what drops keys; the counters i32[4] are then the last input. */
const DROPOUT = ['p', 'stream'] as const;
/** Beside those, of what has heads from this one on of all. */
const FIRST_HEAD = ['firstHead'] as const;

/** Checks that all heads of q, k or v lie inside a row. */
export function expectHeads(
  call: OpCall,
  name: 'q' | 'k' | 'v',
  index: number,
  heads: number,
  type: FloatType,
): number {
  const [rows, width] = matrix(call, index, name, type);
  const end =
    attribute(call, `${name}Offset`) + (heads - 1) * attribute(call, `${name}HeadStride`) + attribute(call, 'headDim');
  if (end > width) {
    const place = `${call.path} (${call.kind})`;
    throw new ConfigError(place, `rows of ${name} of at least ${end} columns for ${heads} heads`, width);
  }
  return rows;
}

/** Multiply-adds of causal attention: half the square. Segments make it less; they are not known when planning. */
function pairs(rows: number, window: number): number {
  return window > 0 && window < rows ? rows * window : (rows * rows) / 2;
}

function inferAttention(call: OpCall, first: number) {
  const type = storageType(call, first, 'q');
  const heads = attribute(call, 'heads');
  const kvHeads = attribute(call, 'kvHeads');
  if (kvHeads < 1 || heads % kvHeads !== 0) {
    throw new ConfigError(`${call.path} (${call.kind})`, 'a number of heads divisible by that of key-value heads', [
      heads,
      kvHeads,
    ]);
  }
  const rows = expectHeads(call, 'q', first, heads, type);
  expectHeads(call, 'k', first + 1, kvHeads, type);
  expectHeads(call, 'v', first + 2, kvHeads, type);
  expectType(call, 'starts', operand(call, first + 3, 'starts'), [rows], 'i32');
  expectType(call, 'ends', operand(call, first + 4, 'ends'), [rows], 'i32');
  if (drops(call)) {
    expectDropout(call, 'p');
    expectType(call, 'random', operand(call, first + 5, 'random'), [4], 'i32');
  }
  return { rows, heads, headDim: attribute(call, 'headDim'), type };
}

function drops(call: OpCall): boolean {
  return call.attributes.p !== undefined;
}

/** q, k, v, starts, ends, (random: then a share p of the keys of each row is dropped) → o[N, H*C], lse[N, H]. */
export const attention: OpRule = {
  kind: 'attention',
  attributes: ATTRIBUTES,
  optionalAttributes: [...DROPOUT, ...FIRST_HEAD],
  perRank: FIRST_HEAD,
  isRandom: true,
  infer(call) {
    expectInputs(call, [drops(call) ? 6 : 5]);
    const { rows, heads, headDim, type } = inferAttention(call, 0);
    return [stored(type, rows, heads * headDim), f32(rows, heads)];
  },
  backward({ inputs, outputs, attributes, gradients, emit }) {
    const dout = gradients[0];
    if (!dout) return inputs.map(() => null);
    const [dq, dk, dv] = emit('attention_backward', [dout, outputs[0]!, outputs[1]!, ...inputs], attributes);
    // One fused tensor gets its whole gradient once.
    const isFused = inputs[0]!.id === inputs[1]!.id;
    const byInputs = isFused ? [dq!, null, null] : [dq!, dk!, dv!];
    return inputs.map((_, index) => byInputs[index] ?? null);
  },
  columnInputs: () => [0, 1, 2],
  demand: demandOfHeads,
  splitOut: splitOfHeads,
  shard: shardHeads,
  cost(op) {
    const rows = op.inputs[0]!.dims[0]!;
    const width = op.outputs[0]!.dims[1]!;
    return { flops: 4 * width * pairs(rows, attribute(op, 'window')), bytes: totalBytes(op) };
  },
};

/** do, o, lse, q, k, v, starts, ends, (random) → dq, dk, dv; one tensor when q, k and v are one. */
export const attentionBackward: OpRule = {
  kind: 'attention_backward',
  attributes: ATTRIBUTES,
  optionalAttributes: [...DROPOUT, ...FIRST_HEAD],
  perRank: FIRST_HEAD,
  isRandom: true,
  infer(call) {
    expectInputs(call, [drops(call) ? 9 : 8]);
    const { rows, heads, headDim, type } = inferAttention(call, 3);
    expectType(call, 'do', operand(call, 0, 'do'), [rows, heads * headDim], type);
    expectType(call, 'o', operand(call, 1, 'o'), [rows, heads * headDim], type);
    expectType(call, 'lse', operand(call, 2, 'lse'), [rows, heads]);
    return [operand(call, 3, 'q'), operand(call, 4, 'k'), operand(call, 5, 'v')];
  },
  outputGroups: ({ inputs }) => {
    if (inputs[3]!.id === inputs[4]!.id && inputs[4]!.id === inputs[5]!.id) return [0, 0, 0];
    return [0, 1, 2];
  },
  cost(op) {
    const rows = op.inputs[0]!.dims[0]!;
    const width = op.inputs[0]!.dims[1]!;
    return { flops: 10 * width * pairs(rows, attribute(op, 'window')), bytes: totalBytes(op) };
  },
};
