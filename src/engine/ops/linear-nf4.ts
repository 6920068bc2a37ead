// Dense layers over frozen weights in 4 bits. The weight is the bytes that engine/nf4.ts writes.
import { nf4Bytes } from '../nf4.js';
import { withoutLeftBias } from './linear.js';
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
  totalBytes,
} from './rule.js';

function expectWeight(call: OpCall, inputs: number, outputs: number): void {
  const bytes = nf4Bytes(inputs * outputs, { isDouble: attribute(call, 'doubleQuant') === 1 });
  expectType(call, 'w', operand(call, 1, 'w'), [bytes], 'u8');
}

/** x[N,I], w u8[bytes], (bias[O]) → y[N,O]. Terms of a sum over ranks have its bias once, as those of `linear`. */
export const linearNf4: OpRule = {
  kind: 'linear_nf4',
  attributes: ['transposed', 'outputs', 'doubleQuant'],
  perRank: ['leavesBias'],
  executed: withoutLeftBias,
  infer(call) {
    expectInputs(call, [2, 3]);
    const type = storageType(call, 0, 'x');
    const [rows, inputs] = matrix(call, 0, 'x', type);
    const outputs = attribute(call, 'outputs');
    expectWeight(call, inputs, outputs);
    if (call.inputs[2]) expectType(call, 'bias', call.inputs[2], [outputs], type);
    return [stored(type, rows, outputs)];
  },
  backward({ inputs, attributes, gradients, needs, emit }) {
    const dy = gradients[0] ?? null;
    const none = inputs.map(() => null);
    if (!dy || !needs[0]) return none;
    const { transposed, doubleQuant } = attributes as { transposed: number; doubleQuant: number };
    const rest = { transposed, inputs: inputs[0]!.dims[1]!, doubleQuant };
    const [dx] = emit('linear_nf4_backward_input', [dy, inputs[1]!], rest);
    return [dx!, ...none.slice(1)];
  },
  cost: (op) => {
    const [rows, inputs] = op.inputs[0]!.dims as [number, number];
    return { flops: 2 * rows * inputs * op.attributes.outputs!, bytes: totalBytes(op) };
  },
};

/** dy[N,O], w u8[bytes] → dx[N,I]. */
export const linearNf4BackwardInput: OpRule = {
  kind: 'linear_nf4_backward_input',
  attributes: ['transposed', 'inputs', 'doubleQuant'],
  infer(call) {
    expectInputs(call, [2]);
    const type = storageType(call, 0, 'dy');
    const [rows, outputs] = matrix(call, 0, 'dy', type);
    const inputs = attribute(call, 'inputs');
    expectWeight(call, inputs, outputs);
    return [stored(type, rows, inputs)];
  },
  cost: (op) => {
    const [rows, outputs] = op.inputs[0]!.dims as [number, number];
    return { flops: 2 * rows * outputs * op.attributes.inputs!, bytes: totalBytes(op) };
  },
};
