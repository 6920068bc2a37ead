// Little-endian f32, bf16 and f16 bytes as float32, exactly. The way back is narrow.ts.
import type { FloatType } from './graph.js';

/** `bytes` must start on a boundary of 4 bytes in its ArrayBuffer (2 for 16-bit types). f32 is a view, not a copy. */
export function widen(bytes: Uint8Array, dtype: FloatType): Float32Array {
  if (dtype === 'f32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  const words = new Uint32Array(halves.length);
  if (dtype === 'bf16') for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
  else for (let i = 0; i < halves.length; i++) words[i] = halfBits(halves[i]!);
  return new Float32Array(words.buffer);
}

/** The bits of a float32 equal to the half-precision number `half` (IEEE 754, 1-5-10). */
function halfBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13); // infinity, NaN
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // A subnormal half is a normal float: fraction * 2^-24.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}
