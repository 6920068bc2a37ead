// The key-value cache of decoding: blocks of tokens that slots hold by a table. Rows are written to the block of their slot and
// position, queries attend to their slot.
import type { FloatType } from '../graph.js';
import { expectHeads } from './attention.js';
import {
  attribute,
  expectInputs,
  expectType,
  matrix,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
  type TensorType,
  totalBytes,
} from './rule.js';
import { kvHeadsOf, offsetsOf } from './shard-heads.js';

/** Tokens of a block of the cache: as many as attention sees at a time, so that its sums are those of packed rows. */
export const CACHE_BLOCK_TOKENS = 64;

/** Checks the operands from `index` on: slots i32[N], positions i32[N], blocks i32[S, M]. */
function expectPlaces(call: OpCall, index: number, rows: number): void {
  expectType(call, 'slots', operand(call, index, 'slots'), [rows], 'i32');
  expectType(call, 'positions', operand(call, index + 1, 'positions'), [rows], 'i32');
  matrix(call, index + 2, 'blocks', 'i32');
}

/** Checks cacheK [B, G*C, T] and cacheV [B, T, G*C] from operand `index` on; returns their types. */
function cacheTypes(call: OpCall, index: number, type: FloatType): readonly [TensorType, TensorType] {
  const [dimsK, dimsV] = cacheDims(call, index, attribute(call, 'kvHeads'));
  expectType(call, 'cacheK', operand(call, index, 'cacheK'), dimsK, type);
  expectType(call, 'cacheV', operand(call, index + 1, 'cacheV'), dimsV, type);
  return [stored(type, ...dimsK), stored(type, ...dimsV)];
}

/** Of cacheK, operand `index`, and of cacheV behind it, for so many key-value heads. */
function cacheDims(call: OpCall, index: number, kvHeads: number): readonly [readonly number[], readonly number[]] {
  const width = kvHeads * attribute(call, 'headDim');
  const blocks = operand(call, index, 'cacheK').dims[0] ?? 0;
  return [
    [blocks, width, CACHE_BLOCK_TOKENS],
    [blocks, CACHE_BLOCK_TOKENS, width],
  ];
}

/** k[N,*], v[N,*], slots i32[N], positions i32[N], blocks i32[S,M], cacheK, cacheV → cacheK, cacheV (the same bytes). */
export const kvAppend: OpRule = {
  kind: 'kv_append',
  attributes: ['kvHeads', 'headDim', 'kOffset', 'kHeadStride', 'vOffset', 'vHeadStride'],
  updates: [
    [0, 5],
    [1, 6],
  ],
  shard(call) {
    const { attributes, ranks } = call;
    const kvHeads = kvHeadsOf(attribute(call, 'kvHeads'), ranks);
    return {
      outputs: [null, null],
      attributes: { ...attributes, kvHeads, ...offsetsOf(call, ['k', 'v']) },
      state: new Map(cacheDims(call, 5, kvHeads).map((dims, index) => [5 + index, dims])),
    };
  },
  infer(call) {
    expectInputs(call, [7]);
    const type = storageType(call, 0, 'k');
    const rows = expectHeads(call, 'k', 0, attribute(call, 'kvHeads'), type);
    expectHeads(call, 'v', 1, attribute(call, 'kvHeads'), type);
    expectPlaces(call, 2, rows);
    return cacheTypes(call, 5, type);
  },
  cost: (op) => ({ flops: 0, bytes: 2 * totalBytes({ ...op, inputs: op.inputs.slice(0, 2), outputs: [] }) }),
};

/** q[N,*], cacheK, cacheV, slots, positions, blocks → o[N, H*C]; a row sees positions max(0, position-window+1)..position. */
export const attentionCached: OpRule = {
  kind: 'attention_cached',
  attributes: ['heads', 'kvHeads', 'headDim', 'scale', 'window', 'qOffset', 'qHeadStride'],
  shard(call) {
    const { attributes, ranks } = call;
    const heads = attribute(call, 'heads') / ranks;
    const kvHeads = kvHeadsOf(attribute(call, 'kvHeads'), ranks);
    const own = { heads, kvHeads, ...offsetsOf(call, ['q']) };
    return { outputs: [{ blocks: 1, parts: ranks }], attributes: { ...attributes, ...own } };
  },
  infer(call) {
    expectInputs(call, [6]);
    const heads = attribute(call, 'heads');
    const type = storageType(call, 0, 'q');
    const rows = expectHeads(call, 'q', 0, heads, type);
    cacheTypes(call, 1, type);
    expectPlaces(call, 3, rows);
    return [stored(type, rows, heads * attribute(call, 'headDim'))];
  },
  cost(op) {
    const [rows, width] = op.outputs[0]!.dims as [number, number];
    const tokens = op.inputs[5]!.dims[1]! * CACHE_BLOCK_TOKENS;
    return { flops: 4 * rows * width * tokens, bytes: totalBytes(op) };
  },
};
