// Limits that the kernel holds workers to: the memory that they asked for, and a share of the CPUs as large as what they asked
// for when these are short. By cgroups of version 2 or 1, whichever can be written here; where neither can, none, and said so.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isOfDead } from '../common/index.js';

/** A Node process with our library has this much before it does anything: less is no limit that anybody can mean. */
const MEMORY_BYTES_MIN = 128 * 1024 * 1024;

export interface CgroupPlaces {
  /** Where cgroups are mounted. */
  readonly root: string;
  /** Which of them this process is in. */
  readonly own: string;
}
export const HERE: CgroupPlaces = { root: '/sys/fs/cgroup', own: '/proc/self/cgroup' };

export interface Limits {
  /** 0: none. */
  readonly memoryBytes: number;
  readonly cpus: number;
}

export type CgroupKind =
  | { readonly version: 2 | 1; readonly detail: string; readonly folders: readonly string[] }
  | { readonly version: null; readonly detail: string };

const V1_CONTROLLERS = ['memory', 'cpu'];

/** What can be used here; makes nothing that stays. */
export function findCgroups({ root, own }: CgroupPlaces = HERE): CgroupKind {
  let lines: readonly string[];
  try {
    lines = readFileSync(own, 'utf8').trim().split('\n');
  } catch {
    return { version: null, detail: 'this system has no cgroups' };
  }
  const pathOf = (controller: string): string | undefined =>
    lines.map((line) => line.split(':')).find(([, names]) => names?.split(',').includes(controller))?.[2];
  try {
    if (existsSync(join(root, 'cgroup.controllers'))) {
      const folder = join(root, pathOf('') ?? '/');
      const offered = readFileSync(join(folder, 'cgroup.controllers'), 'utf8').split(/\s+/);
      if (!offered.includes('memory')) return { version: null, detail: `${folder} has no memory controller` };
      writeFileSync(join(folder, 'cgroup.subtree_control'), '+memory +cpu');
      return { version: 2, detail: `cgroup v2 below ${folder}`, folders: [folder] };
    }
    const folders = V1_CONTROLLERS.map((name) => join(root, name, pathOf(name) ?? '/'));
    for (const folder of folders) {
      const probe = join(folder, `raylite-probe-${process.pid}`);
      mkdirSync(probe);
      rmdirSync(probe);
    }
    return { version: 1, detail: `cgroup v1 below ${folders[0]}`, folders };
  } catch (error) {
    return { version: null, detail: `cgroups cannot be written here (${(error as NodeJS.ErrnoException).code})` };
  }
}

export class WorkerCgroups {
  readonly kind: CgroupKind;
  /** Of this agent alone; gone with it. */
  readonly folders: readonly string[];
  readonly #limits = new Map<string, Limits>();

  private constructor(kind: CgroupKind, name: string) {
    this.kind = kind;
    this.folders = kind.version === null ? [] : kind.folders.map((folder) => join(folder, name));
  }

  /** Removes what dead agents left. @param name of the agent's own group */
  static open(name: string, places: CgroupPlaces = HERE): WorkerCgroups {
    const cgroups = new WorkerCgroups(findCgroups(places), name);
    for (const parent of cgroups.kind.version === null ? [] : cgroups.kind.folders)
      for (const entry of readdirSync(parent)) if (isOfDead(entry)) removeTree(join(parent, entry));
    for (const folder of cgroups.folders) mkdirSync(folder, { recursive: true });
    if (cgroups.kind.version === 2) writeFileSync(join(cgroups.folders[0]!, 'cgroup.subtree_control'), '+memory +cpu');
    return cgroups;
  }

  /** Holds process `pid`, and what it starts from now on, to `limits`. False: it cannot be (it may have ended). */
  limit(id: string, pid: number, limits: Limits): boolean {
    if (this.kind.version === null) return false;
    const memoryBytes = limits.memoryBytes > 0 ? Math.max(MEMORY_BYTES_MIN, limits.memoryBytes) : 0;
    try {
      for (const folder of this.folders) mkdirSync(join(folder, id), { recursive: true });
      for (const [file, value] of this.#settings(id, { ...limits, memoryBytes })) writeFileSync(file, value);
      for (const folder of this.folders) writeFileSync(join(folder, id, 'cgroup.procs'), String(pid));
    } catch {
      this.remove(id);
      return false;
    }
    this.#limits.set(id, { ...limits, memoryBytes });
    return true;
  }

  #settings(id: string, { memoryBytes, cpus }: Limits): readonly (readonly [string, string])[] {
    const [memory, cpu = memory] = this.folders.map((folder) => join(folder, id)) as [string, string?];
    const isV2 = this.kind.version === 2;
    return [
      ...(memoryBytes > 0
        ? [[join(memory, isV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(memoryBytes)] as const]
        : []),
      ...(memoryBytes > 0 && isV2 ? [[join(memory, 'memory.oom.group'), '1'] as const] : []),
      [
        join(cpu as string, isV2 ? 'cpu.weight' : 'cpu.shares'),
        String(isV2 ? clamp(100 * cpus, 1, 10_000) : clamp(1024 * cpus, 2, 262_144)),
      ],
    ];
  }

  /** The limit that ended processes of `id`; null where none did. */
  memoryEnd(id: string): { readonly limitBytes: number } | null {
    const limits = this.#limits.get(id);
    if (!limits?.memoryBytes) return null;
    const file = this.kind.version === 2 ? 'memory.events' : 'memory.oom_control';
    try {
      const text = readFileSync(join(this.folders[0]!, id, file), 'utf8');
      const kills = Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
      return kills > 0 ? { limitBytes: limits.memoryBytes } : null;
    } catch {
      return null;
    }
  }

  /**
   * After the end of a worker: what it started, and has left its process group, ends too. A group that is busy until then goes
   * with the agent.
   */
  remove(id: string): void {
    this.#limits.delete(id);
    for (const folder of this.folders) {
      killAll(join(folder, id));
      removeGroup(join(folder, id));
    }
  }

  close(): void {
    for (const folder of this.folders) removeTree(folder);
  }
}

/** An agent's group with those of its workers. */
function removeTree(folder: string): void {
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) removeGroup(join(folder, entry.name));
  } catch {
    // it has gone already
  }
  removeGroup(folder);
}

function killAll(folder: string): void {
  try {
    const pids = readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
    for (const pid of pids) process.kill(Number(pid), 'SIGKILL');
  } catch {
    // nobody is there
  }
}

function removeGroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // busy, or gone
  }
}

const clamp = (value: number, min: number, max: number): number => Math.min(max, Math.max(min, Math.round(value)));
