// Gives a ds_config.json its meaning: batch arithmetic, "auto" values, optimizer, schedule – or says what cannot be done here.
import { readFile } from 'node:fs/promises';
import { ConfigError, DataError } from '../common/index.js';
import type { Offload, OptimizerSettings } from '../engine/index.js';
import {
  DS_CONFIG_KEYS,
  type DsConfig,
  type DsConfigInput,
  dsConfigSchema,
  optimizerTypeOf,
} from './ds-config-schema.js';
import { elasticShare, enabledElasticity } from './ds-elasticity.js';
import { modernised } from './ds-legacy.js';
import { resolveOffload } from './ds-offload.js';
import { type AutoValues, resolveOptimizer } from './ds-optimizer.js';
import { type Precision, resolvePrecision } from './ds-precision.js';
import { refuseAbsent } from './ds-refused.js';
import { resolveSchedule } from './ds-schedule.js';
import { settledNotes } from './ds-settled.js';
import { type ResolvedZero, resolveZero } from './ds-zero.js';
import { parse } from './parse.js';
import type { Schedule } from './schedule.js';

export type { DsConfigInput } from './ds-config-schema.js';
export type { AutoValues } from './ds-optimizer.js';

/** Sizes of a step, in rows of the sequence length: `trainBatch = microBatch × accumulation × worldSize`. */
export interface BatchSizes {
  readonly trainBatch: number;
  readonly microBatch: number;
  readonly accumulation: number;
}

/** The keys of the schema that say them. */
const BATCH_KEYS = ['train_batch_size', 'train_micro_batch_size_per_gpu', 'gradient_accumulation_steps'] as const;

/** A ds_config with its "auto" and its defaults filled in. */
export interface ResolvedDsConfig extends ResolvedZero {
  readonly batch: BatchSizes;
  /** How long workers share a run at least before others join them. */
  readonly growAfterSeconds: number;
  readonly optimizer: OptimizerSettings;
  readonly precision: Precision;
  readonly schedule: Schedule;
  readonly offload: Offload;
  /** Whether the backward makes the activations inside blocks again. */
  readonly isRecomputed: boolean;
}

/** Reads a ds_config given as a value or as the path of a JSON file. */
export async function readDsConfig(config: DsConfigInput | string): Promise<DsConfig> {
  if (typeof config !== 'string') return parse(dsConfigSchema, spelt(config), 'deepspeed', DS_CONFIG_KEYS);
  let text: string;
  try {
    text = await readFile(config, 'utf8');
  } catch (cause) {
    throw new ConfigError('deepspeed', 'a ds_config object or the path of one', config, 'The file cannot be read', {
      cause,
    });
  }
  try {
    return parse(dsConfigSchema, spelt(JSON.parse(text)), config, DS_CONFIG_KEYS);
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new DataError({ place: config, detail: `is not JSON (${cause.message})` });
    throw cause;
  }
}

/** The config in the words of the schema. */
function spelt(given: unknown): unknown {
  const config = modernised(given);
  if (typeof config !== 'object' || config === null || !('optimizer' in config)) return config;
  const { optimizer } = config;
  if (typeof optimizer !== 'object' || optimizer === null || !('type' in optimizer)) return config;
  return { ...config, optimizer: { ...optimizer, type: optimizerTypeOf(String(optimizer.type)) } };
}

/** Resolves a parsed config for a number of ranks. Throws {@link ConfigError} for what contradicts itself or is not supported. */
export function resolveDsConfig(config: DsConfig, auto: AutoValues): ResolvedDsConfig {
  refuseAbsent(config);
  const zero = resolveZero(config, auto.hiddenSize ?? null);
  const { batch, notes: onBatch } = resolveBatch(config, auto);
  const resolvedOptimizer = resolveOptimizer(config, auto);
  const { schedule, optimizer, notes: onSchedule } = resolveSchedule(config, resolvedOptimizer, auto.totalSteps);
  return {
    batch,
    growAfterSeconds: (config.elasticity?.min_time ?? 0) * 60,
    ...zero,
    notes: [...zero.notes, ...onBatch, ...settledNotes(config), ...onSchedule],
    optimizer,
    precision: resolvePrecision(config, auto),
    schedule,
    offload: resolveOffload(config),
    isRecomputed: config.checkpoint_activations,
  };
}

const known = (value: number | 'auto'): number | null => (value === 'auto' ? null : value);

/** Under elasticity the sizes are its own. */
function resolveBatch(config: DsConfig, auto: AutoValues): Pick<ResolvedDsConfig, 'batch' | 'notes'> {
  const elasticity = enabledElasticity(config.elasticity);
  if (elasticity === null) return { batch: sizesOf(config, auto), notes: [] };
  const beside = BATCH_KEYS.filter((key) => config[key] !== 'auto');
  if (beside.length > 0 && !elasticity.ignore_non_elastic_batch_info)
    throw new ConfigError(
      `deepspeed.${beside[0]!}`,
      'nothing beside elasticity, which chooses the batch',
      config[beside[0]!],
      'With elasticity.ignore_non_elastic_batch_info it has no effect',
    );
  return {
    batch: elasticShare(elasticity, auto.worldSize),
    notes: beside.map((key) => `${key} has no effect: elasticity chooses the batch`),
  };
}

/** DeepSpeed's rules: two of the three sizes give the third, one alone takes no accumulation, three must agree. */
function sizesOf(config: DsConfig, auto: AutoValues): BatchSizes {
  const { worldSize } = auto;
  const train = known(config.train_batch_size);
  const accumulation = known(config.gradient_accumulation_steps);
  let micro = known(config.train_micro_batch_size_per_gpu);
  if (train === null && micro === null) micro = auto.microBatch;
  const resolved: BatchSizes =
    train === null
      ? { trainBatch: micro! * (accumulation ?? 1) * worldSize, microBatch: micro!, accumulation: accumulation ?? 1 }
      : micro === null
        ? {
            trainBatch: train,
            microBatch: Math.floor(train / worldSize / (accumulation ?? 1)),
            accumulation: accumulation ?? 1,
          }
        : { trainBatch: train, microBatch: micro, accumulation: accumulation ?? Math.floor(train / micro / worldSize) };
  if (train !== null && train < worldSize)
    throw new ConfigError(
      'deepspeed.train_batch_size',
      `at least the number of workers, ${worldSize}`,
      train,
      'Each worker takes at least one row a step',
    );
  const product = resolved.microBatch * resolved.accumulation * worldSize;
  if (product !== resolved.trainBatch || product === 0)
    throw new ConfigError(
      'deepspeed.train_batch_size',
      `micro batch × accumulation × workers = ${resolved.microBatch} × ${resolved.accumulation} × ${worldSize} = ${product}`,
      resolved.trainBatch,
      'Leave one of the three sizes out and it is computed',
    );
  return resolved;
}
