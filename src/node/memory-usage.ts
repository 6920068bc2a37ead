// How much memory the machine, or the container that this is, has and uses; and what processes have for themselves.
import { readdirSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';

export interface MemoryUsage {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/** Where to look; tests look elsewhere. */
export interface MemoryPlaces {
  readonly meminfo: string;
  readonly cgroups: string;
}

const KIB = 1024;
const V2 = { limit: 'memory.max', usage: 'memory.current', idle: /^inactive_file (\d+)$/m, folder: '' };
const V1 = {
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  idle: /^total_inactive_file (\d+)$/m,
  folder: 'memory',
};

/** Of the container where it has a limit, else of the machine. */
export function readMemoryUsage(places: MemoryPlaces): MemoryUsage {
  return containerUsage(places.cgroups) ?? machineUsage(places.meminfo);
}

function containerUsage(root: string): MemoryUsage | null {
  for (const { limit, usage, idle, folder } of [V2, V1]) {
    const read = (name: string): string => readFileSync(join(root, folder, name), 'utf8');
    try {
      const totalBytes = Number(read(limit));
      if (!(totalBytes > 0 && totalBytes < totalmem())) continue;
      // What the kernel keeps of files that nobody uses any more is given up before memory is short.
      const idleBytes = Number(idle.exec(read('memory.stat'))?.[1] ?? 0);
      return { usedBytes: Math.max(0, Number(read(usage)) - idleBytes), totalBytes };
    } catch {
      // no such version of cgroups here
    }
  }
  return null;
}

function machineUsage(path: string): MemoryUsage {
  const text = readFileSync(path, 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) * KIB;
  const totalBytes = of('MemTotal');
  return { usedBytes: totalBytes - of('MemAvailable'), totalBytes };
}

/** Memory that each process group has for itself, in bytes: without files and shared memory, which do not go with a process. */
export function readGroupMemory(groups: ReadonlySet<number>): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const group = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);
      if (!groups.has(group)) continue;
      const bytes =
        Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${entry}/status`, 'utf8'))?.[1] ?? 0) * KIB;
      found.set(group, (found.get(group) ?? 0) + bytes);
    } catch {
      // it ended while we looked
    }
  }
  return found;
}
