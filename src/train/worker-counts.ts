// How many workers a run may have at a time, where that may change while it runs, and how each number shares the work. Pure.
import { ConfigError } from '../common/index.js';
import type { Mesh } from '../engine/index.js';
import { type AutoValues, resolveDsConfig } from './ds-config.js';
import type { DsConfig } from './ds-config-schema.js';
import { enabledElasticity, expectModelParallel, expectWorldSize } from './ds-elasticity.js';
import { resolveMesh } from './ds-mesh.js';
import type { ResolvedPipeline } from './ds-pipeline.js';

export interface WorkerRange {
  readonly min: number;
  readonly max: number;
}

type Scaling = Omit<Parameters<typeof resolveMesh>[0], 'workers'> & { readonly workers: WorkerRange };

/** Whether workers may come and go. */
export const isElastic = ({ min, max }: WorkerRange): boolean => max > min;

/**
 * The mesh of every number of workers of the range that shares a step evenly, largest first. Throws {@link ConfigError}: where none does, what
 * the largest is refused for.
 */
export function resolveMeshes(
  scaling: Scaling,
  config: DsConfig,
  pipeline: ResolvedPipeline,
  auto: Omit<AutoValues, 'worldSize'>,
): ReadonlyMap<number, Mesh> {
  const { min, max } = scaling.workers;
  const elasticity = enabledElasticity(config.elasticity);
  if (isElastic(scaling.workers) && elasticity === null && typeof config.train_batch_size !== 'number')
    throw new ConfigError(
      'deepspeed.train_batch_size',
      'a number beside a range of workers',
      config.train_batch_size,
      'A step has the same rows whatever the number of workers: fewer of them accumulate more',
    );
  const meshes = new Map<number, Mesh>();
  let refusal: ConfigError | null = null;
  for (let workers = max; workers >= min; workers--) {
    try {
      const mesh = resolveMesh({ ...scaling, workers }, config, pipeline);
      if (elasticity) expectModelParallel(elasticity, workers / mesh.data);
      // A number with a batch of its own is for other runs: while workers come and go the batch stays the same.
      if (elasticity && isElastic(scaling.workers)) expectWorldSize(elasticity, mesh.data);
      resolveDsConfig(config, { ...auto, worldSize: mesh.data });
      meshes.set(workers, mesh);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      refusal ??= error;
    }
  }
  if (meshes.size === 0) throw refusal!;
  return meshes;
}
