// Rotary position embedding on the first R columns of each head: pairs (i, i + R/2) turn by the row's position, or (2i, 2i + 1)
// when interleaved, as GPT-J has them.
import {
  attribute,
  columnOf,
  expectInputs,
  expectType,
  matrix,
  type OpRule,
  operand,
  storageType,
  stored,
} from './rule.js';

/** x[N,W], cos[P,R/2], sin[P,R/2], positions i32[N] → y[N,W]. The derivative is the turn back. */
export const rotary: OpRule = {
  kind: 'rotary',
  attributes: ['heads', 'headDim', 'rotaryDim', 'offset', 'headStride', 'inverse', 'interleaved'],
  inPlace: [[0, 0]],
  infer(call) {
    expectInputs(call, [4]);
    const type = storageType(call, 0, 'x');
    const [rows, width] = matrix(call, 0, 'x', type);
    const [positions] = matrix(call, 1, 'cos');
    const half = attribute(call, 'rotaryDim') / 2;
    expectType(call, 'cos', operand(call, 1, 'cos'), [positions, half]);
    expectType(call, 'sin', operand(call, 2, 'sin'), [positions, half]);
    expectType(call, 'positions', operand(call, 3, 'positions'), [rows], 'i32');
    return [stored(type, rows, width)];
  },
  backward({ inputs, attributes, gradients, emit }) {
    const dy = gradients[0];
    if (!dy) return [null, null, null, null];
    const inverse = attributes.inverse ? 0 : 1;
    const [dx] = emit('rotary', [dy, inputs[1]!, inputs[2]!, inputs[3]!], { ...attributes, inverse });
    return [dx!, null, null, null];
  },
  columnInputs: () => [0],
  shard(call) {
    const { inputs, splits, attributes } = call;
    const split = splits[0]!;
    const heads = attribute(call, 'heads') / split.parts;
    const offset = columnOf(split, inputs[0]!.dims[1]!, attribute(call, 'offset'));
    return { outputs: [split], attributes: { ...attributes, heads, offset } };
  },
};
