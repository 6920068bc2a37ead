// The block `scheduler` of a ds_config: DeepSpeed's names and defaults → a schedule of the learning rate and of the momentum.
import { ConfigError } from '../common/index.js';
import type { OptimizerSettings } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';
import { given } from './ds-optimizer.js';
import { momentum, type Schedule } from './schedule.js';

/** OneCycle gives these optimizers beta2 too, whatever they say. */
const CYCLED_BETA2 = 0.99;

export interface Scheduled {
  readonly schedule: Schedule;
  /** As given, with a momentum that follows the schedule where that moves it. */
  readonly optimizer: OptimizerSettings;
  readonly notes: readonly string[];
}

/** `rate` is the optimizer's. Throws {@link ConfigError} for a momentum that grows out of bounds within `totalSteps`. */
export function resolveSchedule(
  config: DsConfig,
  { optimizer, rate }: { readonly optimizer: OptimizerSettings; readonly rate: number },
  totalSteps: number,
): Scheduled {
  const schedule = scheduleOf(config, rate, totalSteps);
  if (schedule.kind !== 'OneCycle' || schedule.momentum === null) return { schedule, optimizer, notes: [] };
  if (optimizer.kind !== 'adamw' && optimizer.kind !== 'lion')
    return {
      schedule: { ...schedule, momentum: null },
      optimizer,
      notes: [
        'scheduler.params.cycle_momentum has no effect: of an optimizer without betas DeepSpeed moves none either',
      ],
    };
  const last = momentum(schedule, totalSteps - 1)!;
  if (last >= 1)
    throw new ConfigError(
      'deepspeed.scheduler.params.decay_mom_rate',
      'a rate that leaves the momentum below 1',
      schedule.momentum.decayRate,
      `It would be ${last} in the last step, ${totalSteps}`,
    );
  return { schedule, optimizer: { ...optimizer, beta2: CYCLED_BETA2, isMomentumScheduled: true }, notes: [] };
}

function scheduleOf({ scheduler }: DsConfig, rate: number, totalSteps: number): Schedule {
  if (!scheduler) return { kind: 'constant', rate };
  const warmup = (steps: number | 'auto') => given(steps, Math.ceil(totalSteps * 0.03));
  switch (scheduler.type) {
    case 'WarmupLR':
    case 'WarmupDecayLR': {
      const { warmup_max_lr, warmup_min_lr, warmup_num_steps, warmup_type: warmupType } = scheduler.params;
      const shared = { warmupSteps: warmup(warmup_num_steps), warmupType };
      const rates = { rate: given<number>(warmup_max_lr, rate), minRate: given<number>(warmup_min_lr, 0) };
      if (scheduler.type === 'WarmupLR') return { kind: 'WarmupLR', ...rates, ...shared };
      const total = given<number>(scheduler.params.total_num_steps, totalSteps);
      return { kind: 'WarmupDecayLR', ...rates, ...shared, totalSteps: total };
    }
    case 'WarmupCosineLR': {
      const { params } = scheduler;
      const { cos_min_ratio: minRatio, warmup_min_ratio: warmupMinRatio, warmup_type: warmupType } = params;
      const shared = { warmupSteps: warmup(params.warmup_num_steps), warmupType };
      const total = given<number>(params.total_num_steps, totalSteps);
      return { kind: 'WarmupCosineLR', rate, ...shared, totalSteps: total, minRatio, warmupMinRatio };
    }
    case 'LRRangeTest': {
      const { params } = scheduler;
      return {
        kind: 'LRRangeTest',
        minRate: params.lr_range_test_min_lr,
        stepSize: params.lr_range_test_step_size,
        stepRate: params.lr_range_test_step_rate,
        isStaircase: params.lr_range_test_staircase,
      };
    }
    case 'OneCycle': {
      const { params } = scheduler;
      const { cycle_min_mom: min, cycle_max_mom: max, decay_mom_rate: decayRate } = params;
      return {
        kind: 'OneCycle',
        minRate: params.cycle_min_lr,
        maxRate: params.cycle_max_lr,
        firstSteps: params.cycle_first_step_size,
        secondSteps: params.cycle_second_step_size ?? params.cycle_first_step_size,
        firstStairs: params.cycle_first_stair_count,
        secondStairs: params.cycle_second_stair_count ?? params.cycle_first_stair_count,
        decaySteps: params.decay_step_size,
        decayRate: params.decay_lr_rate,
        momentum: params.cycle_momentum ? { min, max, decayRate } : null,
      };
    }
    case 'constant_with_warmup':
      return { kind: scheduler.type, rate, warmupSteps: warmup(scheduler.params.warmup_num_steps) };
    case 'linear':
    case 'cosine': {
      const { warmup_num_steps, total_num_steps } = scheduler.params;
      const total = given<number>(total_num_steps, totalSteps);
      return { kind: scheduler.type, rate, warmupSteps: warmup(warmup_num_steps), totalSteps: total };
    }
  }
}
