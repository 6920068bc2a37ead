// What an agent keeps outside its session's folder (its arena under /dev/shm, objects on another disk): the name says whose it is.
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isOfDead } from '../common/index.js';

export const ARENA_FOLDER = '/dev/shm';

/** Removes what agents that are dead (killed, power cut) left in `folder`. Returns the paths. */
export function removeDead(folder: string): readonly string[] {
  const removed: string[] = [];
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) {
    if (!isOfDead(name)) continue;
    try {
      rmSync(join(folder, name), { recursive: true });
      removed.push(join(folder, name));
    } catch {
      // another user's
    }
  }
  return removed;
}
