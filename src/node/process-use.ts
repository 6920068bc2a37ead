// What processes use of the CPUs, between two looks, and of the memory.
import { readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100; // USER_HZ, the same on all of Linux
const KIB = 1024;

export interface ProcessUse {
  /** Of one CPU. */
  readonly cpuPercent: number;
  /** For itself: without files and shared memory. */
  readonly memoryBytes: number;
}

export class ProcessUses {
  #last = new Map<number, { readonly ticks: number; readonly atMs: number }>();

  /** Of each process that is still there. */
  look(pids: readonly number[]): ReadonlyMap<number, ProcessUse> {
    const next = new Map<number, { readonly ticks: number; readonly atMs: number }>();
    const uses = new Map<number, ProcessUse>();
    for (const pid of pids) {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        const now = { ticks: Number(fields[11]) + Number(fields[12]), atMs: performance.now() };
        const before = this.#last.get(pid);
        const seconds = before ? (now.atMs - before.atMs) / 1000 : 0;
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        next.set(pid, now);
        uses.set(pid, {
          cpuPercent: before && seconds > 0 ? (100 * (now.ticks - before.ticks)) / TICKS_PER_SECOND / seconds : 0,
          memoryBytes: Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * KIB,
        });
      } catch {
        // it ended
      }
    }
    this.#last = next;
    return uses;
  }
}
