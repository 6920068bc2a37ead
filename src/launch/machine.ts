// What this machine offers: processors, memory, GPUs, shared memory. The defaults of nodes.
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';

/** Share of memory for the object store, and of /dev/shm it may take. As Ray: 30 %. */
const STORE_SHARE = 0.3;
const SHM_SHARE = 0.8;
/** Share of memory offered as the resource "memory"; the rest is for the system and raylite itself. */
const MEMORY_SHARE = 0.7;
const MIB = 1024 * 1024;

export interface Machine {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly gpus: number;
  readonly shmTotalBytes: number;
  readonly shmFreeBytes: number;
}

export function lookAtMachine(): Machine {
  const shm = statfsSync('/dev/shm');
  return {
    cpus: availableParallelism(),
    memoryBytes: memoryLimit(),
    gpus: gpuCount(),
    shmTotalBytes: shm.blocks * shm.bsize,
    shmFreeBytes: shm.bavail * shm.bsize,
  };
}

/** The container's limit where there is one (cgroup v2 or v1), else the machine's memory. */
function memoryLimit(): number {
  for (const file of ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']) {
    try {
      const limit = Number(readFileSync(file, 'utf8').trim());
      if (Number.isFinite(limit) && limit > 0) return Math.min(limit, totalmem());
    } catch {
      // no such cgroup version here
    }
  }
  return totalmem();
}

/** Those that CUDA_VISIBLE_DEVICES lists, else all of NVIDIA. */
function gpuCount(): number {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  if (visible !== undefined) return visible.split(',').filter((id) => !['', '-1'].includes(id.trim())).length;
  try {
    return readdirSync('/dev').filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
}

export const defaultStoreBytes = (machine: Machine): number =>
  floorMiB(Math.min(machine.memoryBytes * STORE_SHARE, machine.shmFreeBytes * SHM_SHARE));

export const offeredMemoryBytes = (machine: Machine, storeBytes: number): number =>
  floorMiB(Math.max(0, machine.memoryBytes * MEMORY_SHARE - storeBytes));

const floorMiB = (bytes: number): number => Math.floor(bytes / MIB) * MIB;
