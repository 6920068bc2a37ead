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

/** Processes of other containers may share /dev/shm: their pids mean nothing here. */
const pidNamespace = (): string => /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';

export const newNodeName = (): string =>
  `raylite-${pidNamespace()}-${process.pid}-${startOf(process.pid)}-${randomBytes(6).toString('hex')}`;

/** The first pid namespace of a machine (PROC_PID_INIT_INO): its processes see those of all others. */
const INITIAL_NAMESPACE = '4026531836';

/** Whether `name` is that of an agent that is surely not there any more. */
export function isOfDead(name: string): boolean {
  const [, namespace = '', pid = '', start = ''] = NAME.exec(name) ?? [];
  if (namespace === '') return false;
  const own = pidNamespace();
  if (namespace === own) return startOf(Number(pid)) !== start;
  return own === INITIAL_NAMESPACE && !isInhabited(namespace);
}

function isInhabited(namespace: string): boolean {
  return readdirSync('/proc').some((entry) => {
    try {
      return /^\d+$/.test(entry) && readlinkSync(`/proc/${entry}/ns/pid`) === `pid:[${namespace}]`;
    } catch {
      return false; // it has ended, or is another user's, whose files we cannot remove either
    }
  });
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
