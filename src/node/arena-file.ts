// The arena's file under /dev/shm: its name says whose it is, so that one left by a killed agent can be told and removed.
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = '/dev/shm';
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

export function newArenaPath(): string {
  const name = `raylite-${pidNamespace()}-${process.pid}-${startOf(process.pid)}-${randomBytes(6).toString('hex')}`;
  return join(FOLDER, name);
}

/** Removes arenas whose agent is dead (killed, power cut). Returns their paths. */
export function removeDeadArenas(): readonly string[] {
  const removed: string[] = [];
  const namespace = pidNamespace();
  for (const name of readdirSync(FOLDER)) {
    const match = NAME.exec(name);
    if (!match || match[1] !== namespace || startOf(Number(match[2])) === match[3]) continue;
    try {
      rmSync(join(FOLDER, name));
      removed.push(join(FOLDER, name));
    } catch {
      // another user's
    }
  }
  return removed;
}
