// The block `elasticity` of a ds_config: DeepSpeed chooses the rows of a step so that many numbers of workers share them evenly. Pure.
// The rules are those of DeepSpeed's deepspeed/elasticity/elasticity.py (versions 0.1 and 0.2).
import { z } from 'zod';
import { ConfigError } from '../common/index.js';

const count = z.int().min(1);

export const elasticitySchema = z.strictObject({
  enabled: z.boolean().default(false),
  max_train_batch_size: count.optional(),
  /** The micro-batches that a worker may take. */
  micro_batch_sizes: z.array(count).min(1).optional(),
  /** Workers, those that share a model included. */
  min_gpus: count.default(1),
  max_gpus: count.default(10_000),
  /** Minutes before a run that got other workers may get others again. */
  min_time: z.number().min(0).default(0),
  /** 0.2 counts whole nodes of `num_gpus_per_node` workers. */
  version: z.literal([0.1, 0.2], 'Expected 0.1 or 0.2').default(0.2),
  prefer_larger_batch: z.boolean().default(true),
  /** Sizes of batches outside this block are refused, or have no effect. */
  ignore_non_elastic_batch_info: z.boolean().default(false),
  /** Workers that share a model: tensor × sequence × pipeline parallel. */
  model_parallel_size: count.default(1),
  num_gpus_per_node: count.default(1),
});

type Block = z.output<typeof elasticitySchema>;
/** Of a block that is enabled. */
export type Elasticity = Block & { readonly max_train_batch_size: number; readonly micro_batch_sizes: number[] };

/** The rows of a step, and the numbers of data parallel workers that share them evenly, smallest first. */
export interface ElasticBatch {
  readonly trainBatch: number;
  readonly worldSizes: readonly number[];
}

export interface ElasticShare {
  readonly trainBatch: number;
  readonly microBatch: number;
  readonly accumulation: number;
}

/** Each has more divisors than any smaller number. OEIS A002182, as many as DeepSpeed takes. */
const HIGHLY_COMPOSITE = [
  1, 2, 4, 6, 12, 24, 36, 48, 60, 120, 180, 240, 360, 720, 840, 1260, 1680, 2520, 5040, 7560, 10080, 15120, 20160,
  25200, 27720, 45360, 50400, 55440, 83160, 110880, 166320, 221760, 277200, 332640, 498960, 554400, 665280, 720720,
];

const fail = (key: string, expected: string, received: unknown, hint?: string): never => {
  throw new ConfigError(`deepspeed.elasticity.${key}`, expected, received, hint);
};

/** The block, where it is there and enabled. Throws {@link ConfigError} for what it lacks or contradicts. */
export function enabledElasticity(block: Block | undefined): Elasticity | null {
  if (!block?.enabled) return null;
  const { max_train_batch_size: most, micro_batch_sizes: micros, version } = block;
  if (most === undefined) return fail('max_train_batch_size', 'a number of rows', most);
  if (micros === undefined) return fail('micro_batch_sizes', 'a list of numbers of rows', micros);
  if (block.max_gpus < block.min_gpus) fail('max_gpus', `at least min_gpus, ${block.min_gpus}`, block.max_gpus);
  if (block.model_parallel_size > 1 && version === 0.1)
    fail('model_parallel_size', '1 in version 0.1', block.model_parallel_size, 'Version 0.2 counts it');
  if (version === 0.2 && block.num_gpus_per_node % block.model_parallel_size !== 0)
    fail(
      'num_gpus_per_node',
      `a multiple of model_parallel_size, ${block.model_parallel_size}`,
      block.num_gpus_per_node,
    );
  return { ...block, max_train_batch_size: most, micro_batch_sizes: micros };
}

/** The batch that the most numbers of workers share; of several the largest, or the smallest where that is preferred. */
export function elasticBatch(elasticity: Elasticity): ElasticBatch {
  const { max_train_batch_size: most, min_gpus, max_gpus, version, num_gpus_per_node: perNode } = elasticity;
  if (version === 0.1) return bestBatch(elasticity, most, min_gpus, max_gpus);
  // Whole nodes: each has so many data parallel workers.
  const dataPerNode = perNode / elasticity.model_parallel_size;
  const nodes = (gpus: number): number => Math.floor(gpus / perNode);
  const ofNodes = bestBatch(elasticity, Math.floor(most / dataPerNode), nodes(min_gpus), nodes(max_gpus));
  return {
    trainBatch: ofNodes.trainBatch * dataPerNode,
    worldSizes: ofNodes.worldSizes.map((size) => size * dataPerNode),
  };
}

/** Throws {@link ConfigError} where so many data parallel workers cannot share the batch, with the nearest numbers that can. */
export function expectWorldSize(elasticity: Elasticity, worldSize: number): ElasticBatch {
  const { trainBatch, worldSizes } = elasticBatch(elasticity);
  if (worldSizes.includes(worldSize)) return { trainBatch, worldSizes };
  const near = [worldSizes.findLast((size) => size < worldSize), worldSizes.find((size) => size > worldSize)];
  throw new ConfigError(
    'trainer.scaling.workers',
    `a number of data parallel workers that elasticity allows for its batch of ${trainBatch} rows`,
    worldSize,
    `Take ${near.filter((size) => size !== undefined).join(' or ')}`,
  );
}

/** Throws {@link ConfigError} where the block counts another number of workers that share a model than there is. */
export function expectModelParallel({ model_parallel_size: size }: Elasticity, workersPerModel: number): void {
  if (size > 1 && size !== workersPerModel)
    fail(
      'model_parallel_size',
      `tensorParallel × sequenceParallel × pipelineParallel = ${workersPerModel}`,
      size,
      'It is the number of workers that share a model',
    );
}

/** How `worldSize` data parallel workers share a step. Throws {@link ConfigError} where they may not. */
export function elasticShare(elasticity: Elasticity, worldSize: number): ElasticShare {
  if (elasticity.version === 0.1) {
    const { trainBatch } = expectWorldSize(elasticity, worldSize);
    return shareOf(elasticity, trainBatch, worldSize);
  }
  const { trainBatch, worldSizes } = elasticBatch(elasticity);
  if (worldSizes.includes(worldSize)) return shareOf(elasticity, trainBatch, worldSize);
  // Version 0.2 takes any number, with a batch of its own.
  const { micro_batch_sizes: micros, max_train_batch_size: most, prefer_larger_batch: isLarger } = elasticity;
  const own = micros.map((micro) => micro * worldSize).map((rows) => Math.floor(most / rows) * rows);
  const batch = isLarger ? Math.max(...own) : Math.min(...own);
  if (batch === 0)
    fail('max_train_batch_size', `at least a micro-batch of each of the ${worldSize} data parallel workers`, most);
  return shareOf(elasticity, batch, worldSize);
}

/** The largest micro-batch that goes into a worker's rows. */
function shareOf({ micro_batch_sizes: micros }: Elasticity, trainBatch: number, worldSize: number): ElasticShare {
  const rows = trainBatch / worldSize;
  const microBatch = Math.max(...micros.filter((micro) => rows % micro === 0));
  return { trainBatch, microBatch, accumulation: rows / microBatch };
}

/** `min` and `max` of 0 are none. */
function bestBatch(elasticity: Elasticity, most: number, min: number, max: number): ElasticBatch {
  const { micro_batch_sizes: micros, prefer_larger_batch: isLarger } = elasticity;
  const largest = Math.max(...micros);
  if (largest > most)
    fail(
      'micro_batch_sizes',
      `numbers up to ${most} (max_train_batch_size, of one data parallel worker of each node)`,
      largest,
    );
  const range = { min: min || 1, max: max || Math.floor(most / Math.min(...micros)) };
  // The multiples that have the most divisors, of each micro-batch and of what all of them divide.
  const candidates = [...micros, micros.reduce(leastCommonMultiple)].flatMap((base) => {
    const times = HIGHLY_COMPOSITE.findLast((each) => each * base <= most);
    return times === undefined ? [] : [times * base];
  });
  let best: ElasticBatch | null = null;
  for (const trainBatch of candidates) {
    const found = { trainBatch, worldSizes: worldSizesOf(trainBatch, micros, range) };
    const gained = found.worldSizes.length - (best?.worldSizes.length ?? 0);
    const isPreferred = best === null || (isLarger ? trainBatch > best.trainBatch : trainBatch < best.trainBatch);
    if (gained > 0 || (gained === 0 && isPreferred)) best = found;
  }
  if (best === null || best.worldSizes.length === 0)
    return fail('max_train_batch_size', 'a batch that some number of workers up to max_gpus shares', most);
  return best;
}

/** Every number in the range whose workers all take the same number of one of the micro-batches. */
function worldSizesOf(
  trainBatch: number,
  micros: readonly number[],
  { min, max }: { readonly min: number; readonly max: number },
): readonly number[] {
  const sizes = new Set<number>();
  for (const micro of micros) {
    if (trainBatch % micro !== 0) continue;
    const most = trainBatch / micro;
    for (let size = min; size <= Math.min(most, max); size++) if (most % size === 0) sizes.add(size);
  }
  return [...sizes].sort((a, b) => a - b);
}

const leastCommonMultiple = (a: number, b: number): number => (a / greatestCommonDivisor(a, b)) * b;
const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));
