// Symmetric block quantisation as ZeRO++ exchanges weights and gradients (arXiv:2306.10209 §3.1; DeepSpeed csrc/quantization).

/** Numbers as integers and a scale for each block. */
export interface Quantised {
  /** One integer per value, from -2^(bits-1) to 2^(bits-1) - 1. */
  readonly q: Int8Array;
  /** What one step is worth, per block; the last block may be shorter. */
  readonly scale: Float32Array;
}

/** factor = 2^bits / (2 * largest magnitude) per block, or 1 for zeros; q = round(x * factor), ties to even. All in float32. */
export function quantise(values: Float32Array, bits: 4 | 8, block: number): Quantised {
  const q = new Int8Array(values.length);
  const scale = new Float32Array(Math.ceil(values.length / block));
  const least = -(2 ** (bits - 1));
  for (let index = 0; index < scale.length; index++) {
    const part = values.subarray(index * block, (index + 1) * block);
    const largest = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const factor = largest === 0 ? 1 : Math.fround(2 ** bits / Math.fround(2 * largest));
    scale[index] = 1 / factor;
    for (const [i, value] of part.entries()) {
      const rounded = roundToEven(Math.fround(value * factor));
      q[index * block + i] = Math.min(Math.max(rounded, least), -least - 1);
    }
  }
  return { q, scale };
}

/** The values that integers stand for, `block` of them to a scale. */
export function dequantise({ q, scale }: Quantised, block: number): Float32Array {
  return Float32Array.from(q, (value, i) => value * scale[Math.floor(i / block)]!);
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
