// Dropout (Srivastava et al., JMLR 15, 2014). Masks come from a counter-based generator and are never kept: the derivative is
// the same op, which draws the same mask again.
import { ConfigError } from '../../common/index.js';
import {
  attribute,
  defaultCost,
  expectInputs,
  expectType,
  matrix,
  type OpCall,
  type OpRule,
  operand,
  storageType,
  stored,
} from './rule.js';

/** Checks the share of what is dropped and the number that tells this op's masks from those of others. */
export function expectDropout(call: OpCall, name: string): void {
  const p = attribute(call, name);
  if (!(p >= 0 && p < 1)) throw new ConfigError(`${call.path} (${call.kind})`, `${name} from 0 to less than 1`, p);
}

/** Where x begins in a matrix that ranks have parts of. */
const PART = ['firstColumn', 'firstRow'] as const;

/** x[N,D], random i32[4] (seed, step, first row of the micro-batch) → y[N,D] = x / (1 - p) where kept, else 0. */
export const dropout: OpRule = {
  kind: 'dropout',
  attributes: ['p', 'stream'],
  optionalAttributes: PART,
  perRank: PART,
  inPlace: [[0, 0]],
  isRandom: true,
  infer(call) {
    expectInputs(call, [2]);
    expectDropout(call, 'p');
    expectType(call, 'random', operand(call, 1, 'random'), [4], 'i32');
    const type = storageType(call, 0, 'x');
    return [stored(type, ...matrix(call, 0, 'x', type))];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const dy = gradients[0];
    return dy ? [emit('dropout', [dy, inputs[1]!], attributes)[0]!, null] : [null, null];
  },
  columnInputs: () => [0],
  shard({ inputs, splits, attributes, ranks, rank }) {
    const firstColumn = (rank * inputs[0]!.dims[1]!) / ranks;
    return { outputs: [splits[0]!], attributes: { firstRow: 0, ...attributes, firstColumn } };
  },
  shardRows: ({ inputs, attributes }, _ranks, rank) => ({
    firstColumn: 0,
    ...attributes,
    firstRow: (attributes.firstRow ?? 0) + rank * inputs[0]!.dims[0]!,
  }),
  // Masks are those of consecutive columns.
  demand: (_call, _input, split) => (split.blocks === 1 ? split : null),
  cost: (op) => ({ ...defaultCost(op), flops: 4 * defaultCost(op).flops }),
};
