// Makes a training job fit the memory that a worker may take: by computing activations again, or not at all.
import { ConfigError, formatBytes } from '../common/index.js';
import {
  compileLargest,
  exchangeBytesOf,
  type Strategy,
  type TrainingSettings,
  workspaceBytesOf,
  worldSizeOf,
  zeroGroup,
} from '../engine/index.js';

/** What a job is cut down from: settings, the rows that a micro-batch is made of, and the threads of a worker. */
export interface MemoryRequest {
  readonly settings: TrainingSettings;
  readonly microBatch: number;
  readonly threads: number;
  /** Null: no limit. */
  readonly memoryMiB: number | null;
}

/**
 * The settings themselves if they fit or ask for a recomputation of their own, else with the least recomputation that fits.
 * Throws {@link ConfigError} with the bytes that are missing and the nearest change that would fit. Allocates nothing.
 */
export function fitMemory(request: MemoryRequest): TrainingSettings {
  const { settings, memoryMiB } = request;
  if (memoryMiB === null) return settings;
  const limitBytes = memoryMiB * 2 ** 20;
  if (totalBytes(request, settings) <= limitBytes) return settings;
  const { recompute = 'none' } = settings;
  const isFree = recompute === 'none' || recompute === 'cheap';
  const fitted = isFree ? recomputed(request, settings, limitBytes) : null;
  if (fitted) return fitted;
  const least = isFree ? { ...settings, recompute: 'full' as const } : settings;
  throw new ConfigError(
    'trainer.scaling.memoryMiBPerWorker',
    `at least ${Math.ceil(totalBytes(request, least) / 2 ** 20)}, what a worker needs${isFree ? ' that computes each block again' : ''}`,
    memoryMiB,
    nearest(request, limitBytes),
  );
}

function totalBytes({ threads }: MemoryRequest, settings: TrainingSettings): number {
  const { memory } = compileLargest(settings);
  return memory.totalBytes + workspaceBytesOf(settings, threads) + exchangeBytesOf(settings.strategy.mesh);
}

/** With the least recomputation that fits, or null. */
function recomputed(request: MemoryRequest, settings: TrainingSettings, limitBytes: number): TrainingSettings | null {
  const full = { ...settings, recompute: 'full' as const };
  const besideBytes = totalBytes(request, full) - compileLargest(full).memory.activationBytes;
  if (besideBytes >= limitBytes) return null;
  const fitted = { ...settings, recompute: { budgetBytes: Math.floor(limitBytes - besideBytes) } };
  try {
    return totalBytes(request, fitted) <= limitBytes ? fitted : null;
  } catch (error) {
    if (error instanceof ConfigError && error.path === 'recompute.budgetBytes') return null;
    throw error;
  }
}

const SLICED = 'ZeRO stage 3 with stage3_max_reuse_distance 0';
const sliced = (strategy: Strategy): Strategy => {
  return { ...strategy, zeroStage: 3, tuning: { ...strategy.tuning, maxReuseDistance: 0 } };
};

/** The first of these changes, with blocks computed again, that fits; tried from the cheapest to the dearest. */
function nearest(request: MemoryRequest, limitBytes: number): string {
  const { settings, microBatch } = request;
  const { strategy } = settings;
  const halves = Array.from({ length: Math.floor(Math.log2(microBatch)) }, (_, index) => microBatch >> (index + 1));
  const offload = { ...settings.offload, optimizer: { device: 'cpu' } } as const;
  const changes: readonly (readonly [string, Partial<TrainingSettings>])[] = [
    ...halves.map((rows) => [`a micro-batch of ${rows}`, { rows: (settings.rows / microBatch) * rows }] as const),
    ...(zeroGroup(strategy).size === 1 || strategy.mesh.pipeline > 1
      ? []
      : [
          ...(strategy.zeroStage < 2 ? [['ZeRO stage 2', { strategy: { ...strategy, zeroStage: 2 } }] as const] : []),
          [SLICED, { strategy: sliced(strategy) }] as const,
        ]),
    ...(settings.offload?.optimizer || strategy.zeroStage === 0
      ? []
      : [['offload_optimizer to "cpu"', { offload }] as const]),
    ...[2, 4, 8].map((times) => {
      const { mesh } = strategy;
      const workers = times * worldSizeOf(mesh);
      const more = { ...strategy, mesh: { ...mesh, data: times * mesh.data } };
      return mesh.pipeline > 1
        ? ([`${workers} workers at ZeRO stage 1`, { strategy: { ...more, zeroStage: 1 } }] as const)
        : ([`${workers} workers at ${SLICED}`, { strategy: sliced(more) }] as const);
    }),
  ];
  for (const [name, change] of changes) {
    const changed = { ...settings, ...change, recompute: 'full' as const };
    const bytes = totalBytes(request, changed);
    if (bytes <= limitBytes) return `With gradientCheckpointing, ${name} would fit (${formatBytes(bytes)})`;
  }
  return 'No smaller micro-batch and no ZeRO stage up to eight times the workers fits: take a smaller model or shorter sequences';
}
