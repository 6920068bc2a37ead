// Names of files that say which process they belong to, so that what a killed one left can be told and removed.
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

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

/** A name that no other process takes, and that says which one took it. */
export const newProcessName = (): string =>
  `raylite-${pidNamespace()}-${process.pid}-${startOf(process.pid)}-${randomBytes(6).toString('hex')}`;

/** The first pid namespace of a machine (PROC_PID_INIT_INO): its processes see those of all others. */
const INITIAL_NAMESPACE = '4026531836';

/** Whether `name` was taken by a process that is surely not there any more. */
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
