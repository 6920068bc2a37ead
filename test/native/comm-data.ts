// The data of the collectives' tests, and how it is compared.
import { createHash } from 'node:crypto';
import { narrow } from '#src/engine/index.js';

/** The two carriers of collectives. */
export type Sibling = 'shm' | 'tcp';

/** The data of `rank`: many magnitudes, so that another order of summation would give other bits. */
export function fill(rank: number, count: number): Float32Array {
  const data = new Float32Array(count);
  for (let index = 0; index < count; index++) {
    const hash = Math.imul(index + 1, 2654435761) ^ Math.imul(rank + 7, 40503);
    data[index] = ((hash % 1000) + 0.1 * rank) * magnitudes[(hash >>> 20) % magnitudes.length]!;
  }
  return data;
}
const magnitudes = [1, 10, 1e2, 1e3, 1e4, 1e5, 1e6];

/** The same in 16 bits, small enough for f16 and down to its subnormals. */
export function fillHalves(rank: number, count: number, type: 'bf16' | 'f16'): Uint16Array {
  return narrow(
    fill(rank, count).map((value) => value * 1e-7),
    type,
  );
}

/** `count` bytes that differ from rank to rank and from place to place. */
export function fillBytes(rank: number, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => Math.imul(index + 1, 2654435761) >>> (8 + rank));
}

export function digest(data: Float32Array | Uint16Array | Uint8Array): string {
  return createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
}
