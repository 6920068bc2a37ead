// What this machine offers to a cluster: what was asked for, and the defaults where nobody says otherwise.
import { ConfigError, formatBytes, type Resources } from '../common/index.js';
import { defaultStoreBytes, lookAtMachine, offeredMemoryBytes } from './machine.js';

/** What a node offers to the cluster. */
export interface NodeOffer {
  /** CPU cores to offer. Default: all that this process may use. */
  readonly numCpus?: number;
  /** GPUs to offer. Default: those of NVIDIA that the machine shows, or CUDA_VISIBLE_DEVICES lists. */
  readonly numGpus?: number;
  /** Custom resources by name. */
  readonly resources?: Readonly<Record<string, number>>;
  /** Bytes of shared memory for objects. Default: 30 % of the memory, at most 80 % of what /dev/shm has free. */
  readonly objectStoreMemory?: number;
}

const STORE_BYTES_MIN = 16 * 1024 * 1024;
const PAGE_BYTES = 4096;

/**
 * The resources of a node, checked. `nameOf` gives what a field is called where the user wrote it. Throws
 * {@link ConfigError}.
 */
export function offeredResources(
  offer: NodeOffer,
  nameOf: (field: keyof NodeOffer) => string = (field) => field,
): { readonly resources: Resources; readonly objectStoreBytes: number } {
  const amount = (name: string, value: number): number => {
    if (!Number.isFinite(value) || value < 0) throw new ConfigError(name, 'an amount of at least 0', value);
    return value;
  };
  for (const [name, value] of Object.entries(offer.resources ?? {})) {
    const path = `${nameOf('resources')}.${name}`;
    amount(path, value);
    if (['CPU', 'GPU', 'memory'].includes(name))
      throw new ConfigError(path, 'a custom resource', value, `Use ${nameOf('numCpus')}, ${nameOf('numGpus')}`);
  }
  const machine = lookAtMachine();
  const storeBytes = offer.objectStoreMemory ?? defaultStoreBytes(machine);
  const isEnough = Number.isFinite(storeBytes) && storeBytes >= STORE_BYTES_MIN;
  if (!isEnough || storeBytes > machine.shmFreeBytes) {
    throw new ConfigError(
      nameOf('objectStoreMemory'),
      isEnough
        ? `at most what /dev/shm has free (${formatBytes(machine.shmFreeBytes)})`
        : `at least ${formatBytes(STORE_BYTES_MIN)}`,
      Number.isFinite(storeBytes) ? formatBytes(storeBytes) : storeBytes,
      `/dev/shm has ${formatBytes(machine.shmFreeBytes)} free of ${formatBytes(machine.shmTotalBytes)}`,
    );
  }
  const gpus = amount(nameOf('numGpus'), offer.numGpus ?? machine.gpus);
  if (!Number.isInteger(gpus)) throw new ConfigError(nameOf('numGpus'), 'a whole number of GPUs', gpus);
  return {
    resources: {
      CPU: amount(nameOf('numCpus'), offer.numCpus ?? machine.cpus),
      memory: offeredMemoryBytes(machine, storeBytes),
      ...(gpus > 0 ? { GPU: gpus } : {}),
      ...offer.resources,
    },
    objectStoreBytes: Math.floor(storeBytes / PAGE_BYTES) * PAGE_BYTES,
  };
}
