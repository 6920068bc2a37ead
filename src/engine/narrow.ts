// float32 as bf16 and f16, rounded to nearest, ties to even, as the kernels store it. The way back is widen.ts.
import type { FloatType } from './graph.js';

/** The bits of each value as bf16 or f16; NaN stays NaN, what is too large becomes infinity. */
export function narrow(values: Float32Array, dtype: Exclude<FloatType, 'f32'>): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(bits.length);
  const round = dtype === 'bf16' ? bf16Bits : halfBits;
  for (let i = 0; i < bits.length; i++) halves[i] = round(bits[i]!);
  return halves;
}

function bf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00; // NaN
  if (size >= 0x47800000) return sign | 0x7c00; // from 65536 on
  // Normal: the exponent is counted from 15 in place of 127. From 65520 on rounding carries into infinity.
  if (size >= 0x38800000) return sign | roundOff(size - 0x38000000, 13);
  const exponent = size >>> 23;
  if (exponent < 102) return sign; // below half the smallest subnormal
  return sign | roundOff((size & 0x7fffff) | 0x800000, 126 - exponent);
}

/** bits / 2^count, ties to even. */
function roundOff(bits: number, count: number): number {
  const kept = Math.floor(bits / 2 ** count);
  const rest = bits - kept * 2 ** count;
  const half = 2 ** (count - 1);
  return rest > half || (rest === half && kept % 2 === 1) ? kept + 1 : kept;
}
