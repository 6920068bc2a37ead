// The key-value cache of decoding: rows are written to their slot and position, queries attend to their slot.
import { ConfigError } from '../../common/index.js';
import type { FloatType } from '../graph.js';
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
  totalBytes,
} from './rule.js';

/** Checks a cache [B slots, P positions, G*C] and returns its dims. */
function cacheDims(call: OpCall, index: number, name: string, type: FloatType): readonly number[] {
  const cache = operand(call, index, name);
  const width = attribute(call, 'kvHeads') * attribute(call, 'headDim');
  const [slots, positions] = cache.dims;
  if (cache.dims.length !== 3 || slots === undefined || positions === undefined) {
    throw new ConfigError(
      `${call.path} (${call.kind})`,
      `${name} to have dims [slots, positions, ${width}]`,
      cache.dims,
    );
  }
  expectType(call, name, cache, [slots, positions, width], type);
  return cache.dims;
}

/** k[N,*], v[N,*], slots i32[N], positions i32[N], cacheK, cacheV → cacheK, cacheV (the same bytes). */
export const kvAppend: OpRule = {
  kind: 'kv_append',
  attributes: ['kvHeads', 'headDim', 'kOffset', 'kHeadStride', 'vOffset', 'vHeadStride'],
  updates: [
    [0, 4],
    [1, 5],
  ],
  infer(call) {
    expectInputs(call, [6]);
    const type = storageType(call, 0, 'k');
    const rows = expectHeads(call, 'k', 0, attribute(call, 'kvHeads'), type);
    expectHeads(call, 'v', 1, attribute(call, 'kvHeads'), type);
    expectType(call, 'slots', operand(call, 2, 'slots'), [rows], 'i32');
    expectType(call, 'positions', operand(call, 3, 'positions'), [rows], 'i32');
    return [stored(type, ...cacheDims(call, 4, 'cacheK', type)), stored(type, ...cacheDims(call, 5, 'cacheV', type))];
  },
  cost: (op) => ({ flops: 0, bytes: 2 * totalBytes({ ...op, inputs: op.inputs.slice(0, 2), outputs: [] }) }),
};

/** q[N,*], cacheK, cacheV, slots, positions → o[N, H*C]; a row sees cache[slot][max(0, position-window+1)..position]. */
export const attentionCached: OpRule = {
  kind: 'attention_cached',
  attributes: ['heads', 'kvHeads', 'headDim', 'scale', 'window', 'qOffset', 'qHeadStride'],
  infer(call) {
    expectInputs(call, [5]);
    const heads = attribute(call, 'heads');
    const type = storageType(call, 0, 'q');
    const rows = expectHeads(call, 'q', 0, heads, type);
    cacheDims(call, 1, 'cacheK', type);
    cacheDims(call, 2, 'cacheV', type);
    expectType(call, 'slots', operand(call, 3, 'slots'), [rows], 'i32');
    expectType(call, 'positions', operand(call, 4, 'positions'), [rows], 'i32');
    return [stored(type, rows, heads * attribute(call, 'headDim'))];
  },
  cost(op) {
    const [rows, width] = op.outputs[0]!.dims as [number, number];
    return { flops: 4 * rows * width * op.inputs[1]!.dims[1]!, bytes: totalBytes(op) };
  },
};
