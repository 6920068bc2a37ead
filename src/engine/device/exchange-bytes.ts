// What the groups of a rank exchange through, beside its device's memory.
import { native } from '../../native/index.js';
import { groupOf, jointsOf, type Mesh } from '../mesh.js';

/**
 * Bytes of shared memory that the communicators of a rank map, where all ranks are on one machine: those of the stage of a pipeline that
 * has most. Between machines connections take their place, which need less.
 */
export function exchangeBytesOf(mesh: Mesh): number {
  const bytesOf = (rank: number) =>
    jointsOf(mesh, rank).reduce((sum, { size }) => sum + native().shmGroupBytes(size), 0);
  return Math.max(...groupOf(mesh, 0, 'pipeline').ranks.map(bytesOf));
}
