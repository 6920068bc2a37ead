// Random numbers by name: what a parameter starts with depends on the seed and its name, on neither order, rank, threads nor CPU.
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { native } from '../native/index.js';

/** The stream of random numbers that a name has, below 2^32. */
export function streamOf(name: string): number {
  return createHash('sha256').update(name).digest().readUInt32LE(0);
}

/** Fills `values` with normal numbers times `std`: Philox counters under a key made of `name` (see native/cpu/normal.cpp). */
export function fillNormal(values: Float32Array, name: string, std: number): void {
  const digest = createHash('sha256').update(name).digest();
  native().fillNormal(values, digest.readUInt32LE(0), digest.readUInt32LE(4), std, availableParallelism(), null);
}
