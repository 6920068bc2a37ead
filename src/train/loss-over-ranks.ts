// The loss of a job out of what its ranks report.
import { coordinatesOf, type Mesh } from '../engine/index.js';

/** The sum of the ranks' parts, in their order: the ranks of a tensor group all have the loss of their rows. */
export function lossOverRanks(mesh: Mesh, parts: readonly number[]): number {
  return parts.reduce((sum, part, rank) => (coordinatesOf(mesh, rank).tensor === 0 ? sum + part : sum), 0);
}
