// Numbers as payloads of 8-bit or 4-bit integers, block by block: what ZeRO++ sends in place of weights and gradients. The
// arithmetic is that of quantise.ts, the bytes are those of native/core/ops/block_quantise.h.
import { ConfigError } from '../../common/index.js';
import { elementCount, floatTypeOf } from '../graph.js';
import { attribute, expectInputs, expectType, type OpCall, type OpRule, operand, storageType, stored } from './rule.js';

/** Bytes of `elements` numbers (a multiple of 32): the integers, then an f32 for each block. */
export function payloadBytes(elements: number, bits: number, block: number): number {
  return (elements * bits) / 8 + 4 * Math.ceil(elements / block);
}

/** Numbers of a part. */
function partOf(call: OpCall, elements: number, parts: number): number {
  const part = elements / parts;
  if (Number.isInteger(part) && part % 32 === 0) return part;
  throw new ConfigError(`${call.path} (${call.kind})`, `${parts} equal parts of a multiple of 32 numbers`, elements);
}

/** x T[parts*n] → y u8: a payload for each part. As a matrix of `columns` columns the parts of y are those of x transposed. */
export const blockQuantise: OpRule = {
  kind: 'block_quantise',
  attributes: ['bits', 'block', 'parts', 'columns'],
  infer(call) {
    expectInputs(call, [1]);
    storageType(call, 0, 'x');
    const parts = attribute(call, 'parts');
    const part = partOf(call, elementCount(operand(call, 0, 'x').dims), parts);
    const bytes = parts * payloadBytes(part, attribute(call, 'bits'), attribute(call, 'block'));
    return [{ dtype: 'u8', dims: [bytes] }];
  },
};

/**
 * x u8: payloads of `parts` parts → y T[elements]: part p is the sum of those at p, p + parts / terms, … `elements` and the code
 * `to` of T are read by the compiler alone.
 */
export const blockDequantise: OpRule = {
  kind: 'block_dequantise',
  attributes: ['bits', 'block', 'parts', 'terms'],
  infer(call) {
    expectInputs(call, [1]);
    const [parts, terms, elements] = [attribute(call, 'parts'), attribute(call, 'terms'), attribute(call, 'elements')];
    const part = partOf(call, elements, parts / terms);
    const bytes = parts * payloadBytes(part, attribute(call, 'bits'), attribute(call, 'block'));
    expectType(call, 'x', operand(call, 0, 'x'), [bytes], 'u8');
    return [stored(floatTypeOf(attribute(call, 'to')), elements)];
  },
};
