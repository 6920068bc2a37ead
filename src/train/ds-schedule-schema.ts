// The block `scheduler` of a ds_config.json as a zod schema: DeepSpeed's schedulers, and those of Transformers in lower case.
import { z } from 'zod';

const auto = z.literal('auto');
const count = z.int().min(1);
const rate = z.number().positive();
const momentum = z.number().min(0).lt(1);

const stepFields = { warmup_num_steps: z.union([z.int().min(0), auto]).default('auto') };
/** What DeepSpeed's loop takes to go on from elsewhere; here a checkpoint knows its step. */
const startFields = { last_batch_iteration: z.literal(-1).optional() };
const warmupFields = {
  warmup_min_lr: z.union([z.number().min(0), auto]).default(0),
  warmup_max_lr: z.union([rate, auto, z.null()]).default('auto'),
  warmup_num_steps: z.union([z.int().min(0), auto]).default(1000),
  warmup_type: z.enum(['log', 'linear']).default('log'),
  ...startFields,
};
const totalSteps = z.union([count, auto]).default('auto');
const cosineFields = {
  total_num_steps: totalSteps,
  warmup_min_ratio: z.number().min(0).max(1).default(0),
  warmup_num_steps: z.union([z.int().min(0), auto]).default(1000),
  cos_min_ratio: z.number().min(0).max(1).default(0.0001),
  warmup_type: z.enum(['log', 'linear']).default('log'),
  ...startFields,
};
const rangeTestFields = {
  lr_range_test_min_lr: rate.default(1e-3),
  lr_range_test_step_size: count.default(2000),
  lr_range_test_step_rate: z.number().min(0).default(1),
  lr_range_test_staircase: z.boolean().default(false),
  ...startFields,
};
const oneCycleFields = {
  cycle_min_lr: rate,
  cycle_max_lr: rate,
  decay_lr_rate: z.number().min(0).default(0),
  cycle_first_step_size: count.default(2000),
  /** Default: the first. */
  cycle_second_step_size: z.union([z.int().min(0), z.null()]).default(null),
  cycle_first_stair_count: z.int().min(0).default(0),
  /** Default: the first. */
  cycle_second_stair_count: z.union([z.int().min(0), z.null()]).default(null),
  decay_step_size: z.int().min(0).default(0),
  cycle_momentum: z.boolean().default(true),
  cycle_min_mom: momentum.default(0.8),
  cycle_max_mom: momentum.default(0.9),
  decay_mom_rate: z.number().min(0).default(0),
  ...startFields,
};

export const scheduler = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('WarmupLR'), params: z.strictObject(warmupFields).prefault({}) }),
  z.strictObject({
    type: z.literal('WarmupDecayLR'),
    params: z.strictObject({ ...warmupFields, total_num_steps: totalSteps }).prefault({}),
  }),
  z.strictObject({ type: z.literal('WarmupCosineLR'), params: z.strictObject(cosineFields).prefault({}) }),
  z.strictObject({ type: z.literal('LRRangeTest'), params: z.strictObject(rangeTestFields).prefault({}) }),
  z.strictObject({ type: z.literal('OneCycle'), params: z.strictObject(oneCycleFields) }),
  // Not DeepSpeed's: what Transformers calls lr_scheduler_type.
  z.strictObject({ type: z.literal('constant_with_warmup'), params: z.strictObject(stepFields).prefault({}) }),
  z.strictObject({
    type: z.enum(['linear', 'cosine']),
    params: z.strictObject({ ...stepFields, total_num_steps: totalSteps }).prefault({}),
  }),
]);

export const SCHEDULER_KEYS: readonly string[] = [warmupFields, cosineFields, rangeTestFields, oneCycleFields].flatMap(
  (fields) => Object.keys(fields),
);
