// What this machine offers to a cluster when nobody says otherwise.
import { readdirSync, statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { ConfigError, type Resources } from '../common/index.js';

export interface NodeOffer {
  /** CPU cores to offer. Default: all that this process may use. */
  readonly numCpus?: number;
  /** GPUs to offer. Default: those of NVIDIA that the machine shows, or CUDA_VISIBLE_DEVICES lists. */
  readonly numGpus?: number;
  /** Custom resources by name. */
  readonly resources?: Readonly<Record<string, number>>;
  /** Bytes of shared memory for objects. Default: 30 % of the memory, at most 90 % of what /dev/shm has free. */
  readonly objectStoreMemory?: number;
}

const STORE_BYTES_MIN = 16 * 1024 * 1024;
const STORE_BYTES_MAX = 200e9;
const MEMORY_SHARE = 0.7; // the rest is the store's and the system's

function gpuCount(): number {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  if (visible !== undefined) return visible.split(',').filter((id) => id.trim() !== '' && id.trim() !== '-1').length;
  try {
    return readdirSync('/dev').filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
}

/** The resources of a node, checked. */
export function offeredResources(offer: NodeOffer): {
  readonly resources: Resources;
  readonly objectStoreBytes: number;
} {
  const amount = (name: string, value: number): number => {
    if (!Number.isFinite(value) || value < 0) throw new ConfigError(name, 'an amount of at least 0', value);
    return value;
  };
  for (const [name, value] of Object.entries(offer.resources ?? {})) {
    amount(`resources.${name}`, value);
    if (['CPU', 'GPU', 'memory'].includes(name))
      throw new ConfigError(`resources.${name}`, 'a custom resource', value, 'Use numCpus, numGpus');
  }
  const free = statfsSync('/dev/shm');
  const room = Math.floor(free.bavail * free.bsize * 0.9);
  const wanted = offer.objectStoreMemory ?? Math.min(totalmem() * 0.3, room, STORE_BYTES_MAX);
  if (!Number.isFinite(wanted) || wanted < STORE_BYTES_MIN)
    throw new ConfigError('objectStoreMemory', `at least ${STORE_BYTES_MIN} bytes`, wanted);
  if (wanted > room)
    throw new ConfigError('objectStoreMemory', `at most the ${room} bytes that /dev/shm has room for`, wanted);
  const gpus = amount('numGpus', offer.numGpus ?? gpuCount());
  return {
    resources: {
      CPU: amount('numCpus', offer.numCpus ?? availableParallelism()),
      memory: Math.floor(totalmem() * MEMORY_SHARE),
      ...(gpus > 0 ? { GPU: gpus } : {}),
      ...offer.resources,
    },
    objectStoreBytes: Math.floor(wanted / 4096) * 4096,
  };
}
