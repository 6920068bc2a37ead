// The data of the collectives' tests, and how it is compared.
import { createHash } from 'node:crypto';

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

export function digest(data: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
}
