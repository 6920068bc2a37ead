// The values of one parameter out of device memory, whatever they are stored in.
import { DTYPE_BYTES, type FloatType } from '../graph.js';
import type { ParameterPlace } from '../layout.js';
import { dequantiseNf4, nf4Bytes } from '../nf4.js';
import { widen } from '../widen.js';

/** A copy; `offset` is where the parameter begins in `memory`, in elements of `dtype`. */
export function decodeParameter(
  memory: ArrayBuffer,
  offset: number,
  { length, nf4 }: Pick<ParameterPlace, 'length' | 'nf4'>,
  dtype: FloatType,
): Float32Array {
  const start = offset * DTYPE_BYTES[dtype];
  if (nf4) return dequantiseNf4(new Uint8Array(memory, start, nf4Bytes(length, nf4)), length, nf4);
  if (dtype === 'f32') return new Float32Array(memory, start, length).slice();
  return widen(new Uint8Array(memory, start, length * DTYPE_BYTES[dtype]), dtype);
}
