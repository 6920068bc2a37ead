// The data of the collectives' tests, and how it is compared.
import { createHash } from 'node:crypto';
import { narrow } from '#src/engine/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';

/** The carriers of collectives. */
export const SIBLINGS = ['shm', 'tcp', 'hierarchical', 'sealed tcp'] as const;
export type Sibling = (typeof SIBLINGS)[number];

/** How many machines a hierarchical group of `size` ranks is played on: two ranks on each, as far as that goes. */
const machinesOf = (size: number): number => (size > 2 && size % 2 === 0 ? size / 2 : size);

export interface Joining {
  readonly sibling: Sibling;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly secret: string;
  readonly rank: number;
  readonly size: number;
  readonly timeoutMs: number;
  readonly operationTimeoutMs?: number;
  readonly names?: readonly number[];
}

/** Joins a group of any kind; `listener` is not used in shared memory. */
export function joinGroup(joining: Joining, listener: object | null): Promise<NativeCommunicator> {
  const { sibling, size } = joining;
  if (sibling === 'shm') return native().joinShmGroup(joining);
  const options = { ...joining, listener: listener! };
  if (sibling === 'hierarchical') return native().joinHierarchicalGroup({ ...options, machines: machinesOf(size) });
  return native().joinTcpGroup({ ...options, seals: sibling === 'sealed tcp' });
}

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
