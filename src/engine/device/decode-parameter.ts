// The values of one parameter out of memory, whatever they are stored in.
import { DTYPE_BYTES, type FloatType } from '../graph.js';
import type { ParameterPlace } from '../layout.js';
import { dequantiseNf4, nf4Bytes } from '../nf4.js';
import { widen } from '../widen.js';

/** A copy; `read` fills what it is given with the parameter's bytes. */
export function decodeParameter(
  read: (bytes: Uint8Array) => void,
  { length, nf4 }: Pick<ParameterPlace, 'length' | 'nf4'>,
  dtype: FloatType,
): Float32Array {
  const bytes = new Uint8Array(nf4 ? nf4Bytes(length, nf4) : length * DTYPE_BYTES[dtype]);
  read(bytes);
  if (nf4) return dequantiseNf4(bytes, length, nf4);
  return dtype === 'f32' ? new Float32Array(bytes.buffer) : widen(bytes, dtype);
}
