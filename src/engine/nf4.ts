// Weights in 4 bits: NormalFloat-4 in blocks of 64, whose scales may be bytes in blocks of 256 (QLoRA, arXiv:2305.14314 §3), with the
// tables and the order of bits of bitsandbytes. How the bytes lie in memory: native/core/ops/linear_nf4.h.

const BLOCK = 64;
const SUPERBLOCK = 256;

/** Quantiles of a normal distribution, with an exact 0. */
const TABLE = Float32Array.from([
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
]);

/** How weights are kept in 4 bits (NF4, arXiv:2305.14314). */
export interface Nf4Settings {
  /** Whether scales are bytes too: 4.127 bits per weight in place of 4.5. */
  readonly isDouble: boolean;
}

interface Parts {
  readonly nibbles: Uint8Array;
  readonly floats: Float32Array;
  readonly bytes: Uint8Array;
}

const aligned = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** Bytes of `count` weights. */
export function nf4Bytes(count: number, { isDouble }: Nf4Settings): number {
  const blocks = Math.ceil(count / BLOCK);
  const nibbles = aligned(Math.ceil(count / 2));
  if (!isDouble) return nibbles + aligned(4 * blocks);
  return nibbles + aligned(4 * (257 + Math.ceil(blocks / SUPERBLOCK))) + aligned(blocks);
}

function partsOf(memory: Uint8Array, count: number, { isDouble }: Nf4Settings): Parts {
  const blocks = Math.ceil(count / BLOCK);
  const at = aligned(Math.ceil(count / 2));
  const floats = isDouble ? 257 + Math.ceil(blocks / SUPERBLOCK) : blocks;
  const bytesAt = at + aligned(4 * floats);
  return {
    nibbles: memory.subarray(0, Math.ceil(count / 2)),
    floats: new Float32Array(memory.buffer, memory.byteOffset + at, floats),
    bytes: memory.subarray(bytesAt, isDouble ? bytesAt + blocks : bytesAt),
  };
}

/** Writes `values` into `memory`, as long as nf4Bytes() says and from a multiple of 16 bytes on. */
export function quantiseNf4(values: Float32Array, memory: Uint8Array, settings: Nf4Settings): void {
  const { nibbles, floats, bytes } = partsOf(memory, values.length, settings);
  const scales = new Float32Array(Math.ceil(values.length / BLOCK));
  for (let block = 0; block < scales.length; block++) {
    const end = Math.min(values.length, (block + 1) * BLOCK);
    let largest = 0;
    for (let i = block * BLOCK; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[block] = largest;
    const inverse = largest === 0 ? 0 : 1 / largest;
    for (let i = block * BLOCK; i < end; i += 2) {
      const first = nearest(TABLE, values[i]! * inverse);
      const second = i + 1 < end ? nearest(TABLE, values[i + 1]! * inverse) : 7; // 7 is the table's 0
      nibbles[i >> 1] = (first << 4) | second;
    }
  }
  if (settings.isDouble) quantiseScales(scales, floats, bytes);
  else floats.set(scales);
}

/** Scales less their mean, by the nearest of 256 steps that are finest near 0. */
function quantiseScales(scales: Float32Array, floats: Float32Array, bytes: Uint8Array): void {
  const mean = Math.fround(scales.reduce((sum, scale) => sum + scale, 0) / Math.max(1, scales.length));
  floats[0] = mean;
  const map = dynamicMap();
  floats.set(map, 1);
  for (let part = 0; part * SUPERBLOCK < scales.length; part++) {
    const end = Math.min(scales.length, (part + 1) * SUPERBLOCK);
    let largest = 0;
    for (let i = part * SUPERBLOCK; i < end; i++) largest = Math.max(largest, Math.abs(scales[i]! - mean));
    floats[257 + part] = largest;
    const inverse = largest === 0 ? 0 : 1 / largest;
    for (let i = part * SUPERBLOCK; i < end; i++) bytes[i] = nearest(map, (scales[i]! - mean) * inverse);
  }
}

/** The values that quantiseNf4 wrote, rounded. */
export function dequantiseNf4(memory: Uint8Array, count: number, settings: Nf4Settings): Float32Array {
  const { nibbles, floats, bytes } = partsOf(memory, count, settings);
  const scaleOf = (block: number): number =>
    settings.isDouble
      ? Math.fround(floats[1 + bytes[block]!]! * floats[257 + Math.floor(block / SUPERBLOCK)]! + floats[0]!)
      : floats[block]!;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const pair = nibbles[i >> 1]!;
    values[i] = TABLE[i % 2 === 0 ? pair >> 4 : pair & 15]! * scaleOf(Math.floor(i / BLOCK));
  }
  return values;
}

/** Index of the value of a sorted table that is nearest; the lower of two. */
function nearest(table: Float32Array, value: number): number {
  let low = 0;
  let high = table.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (table[middle]! <= value) low = middle;
    else high = middle;
  }
  return value - table[low]! <= table[high]! - value ? low : high;
}

/** 8-bit dynamic tree quantisation (Dettmers, arXiv:1511.04561): a sign, an exponent of base 10, a fraction in the bits left. */
function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let exponent = 0; exponent < 7; exponent++) {
    const steps = 2 ** exponent;
    for (let i = 0; i < steps; i++) {
      const fraction = 0.1 + (0.9 * (i + 0.5)) / steps;
      const value = fraction * 10 ** (exponent - 6);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}
