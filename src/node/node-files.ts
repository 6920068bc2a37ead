// What an agent keeps outside its session's folder (its arena under /dev/shm, objects on another disk): the name says whose
// it is, so that what a killed agent left can be told and removed.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';

export const ARENA_FOLDER = '/dev/shm';
const NAME = /^raylite-(\d+)-(\d+)-(\d+)-[0-9a-f]+$/;

/** When process `pid` started (clock ticks since boot), or null when there is none. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Processes of other containers may share /dev/shm: only those of our own pid namespace can be judged. */
const pidNamespace = (): string => /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';

export const newNodeName = (): string =>
  `raylite-${pidNamespace()}-${process.pid}-${startOf(process.pid)}-${randomBytes(6).toString('hex')}`;

/** Whether `name` is that of an agent of our own pid namespace that is not there any more. */
export function isOfDead(name: string): boolean {
  const match = NAME.exec(name);
  return match !== null && match[1] === pidNamespace() && startOf(Number(match[2])) !== match[3];
}

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
