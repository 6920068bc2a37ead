// Learning-rate schedules as pure functions of the optimizer step (0 is the first), as DeepSpeed's schedulers and (in lower case)
// those of Transformers give them.
import { type OneCycle, oneCycleMomentum, oneCycleRate, type RangeTest, rangeTestRate } from './schedule-cycle.js';

/** How the learning rate goes over the steps: DeepSpeed's schedules under their names. */
export type Schedule =
  | { readonly kind: 'constant'; readonly rate: number }
  | Warmup<'WarmupLR', { readonly minRate: number }>
  | Warmup<'WarmupDecayLR', { readonly minRate: number; readonly totalSteps: number }>
  | Warmup<
      'WarmupCosineLR',
      { readonly totalSteps: number; readonly minRatio: number; readonly warmupMinRatio: number }
    >
  | RangeTest
  | OneCycle
  | { readonly kind: 'constant_with_warmup'; readonly rate: number; readonly warmupSteps: number }
  | {
      readonly kind: 'linear' | 'cosine';
      readonly rate: number;
      readonly warmupSteps: number;
      readonly totalSteps: number;
    };

type Warmup<Kind extends string, More> = {
  readonly kind: Kind;
  /** The rate after the warm-up. */
  readonly rate: number;
  readonly warmupSteps: number;
  readonly warmupType: 'log' | 'linear';
} & More;

/**
 * The learning rate of optimizer step `step` = 0, 1, …. DeepSpeed's schedulers advance after each step and start one before
 * their first position, so that steps 0 and 1 both use the start.
 */
export function learningRate(schedule: Schedule, step: number): number {
  const position = Math.max(0, step - 1);
  switch (schedule.kind) {
    case 'constant':
      return schedule.rate;
    case 'WarmupLR':
      return schedule.minRate + (schedule.rate - schedule.minRate) * warmup(schedule, position);
    case 'WarmupDecayLR': {
      const { totalSteps, warmupSteps, minRate, rate } = schedule;
      const share =
        position < warmupSteps
          ? warmup(schedule, position)
          : Math.max(0, (totalSteps - position) / Math.max(1, totalSteps - warmupSteps));
      return minRate + (rate - minRate) * share;
    }
    case 'WarmupCosineLR': {
      const { totalSteps, warmupSteps, minRatio, warmupMinRatio, rate } = schedule;
      if (position < warmupSteps) return rate * (warmupMinRatio + (1 - warmupMinRatio) * warmup(schedule, position));
      const progress = Math.min(1, (position - warmupSteps + 1) / Math.max(1, totalSteps - warmupSteps));
      return rate * (minRatio + ((1 - minRatio) * (1 + Math.cos(Math.PI * progress))) / 2);
    }
    case 'LRRangeTest':
      return rangeTestRate(schedule, step);
    case 'OneCycle':
      return oneCycleRate(schedule, step);
    case 'constant_with_warmup':
      return schedule.rate * Math.min(1, step / Math.max(1, schedule.warmupSteps));
    case 'linear':
    case 'cosine': {
      const { kind, totalSteps, warmupSteps, rate } = schedule;
      if (step < warmupSteps) return (rate * step) / warmupSteps;
      const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
      // Behind its last step the cosine of Transformers rises again.
      return rate * (kind === 'linear' ? Math.max(0, 1 - progress) : (1 + Math.cos(Math.PI * progress)) / 2);
    }
  }
}

/** The momentum of optimizer step `step`; null where the schedule leaves it to the optimizer. */
export function momentum(schedule: Schedule, step: number): number | null {
  return schedule.kind === 'OneCycle' ? oneCycleMomentum(schedule, step) : null;
}

/** Share of the way up at `position`; 1 from the end of the warm-up on. */
function warmup(schedule: { readonly warmupSteps: number; readonly warmupType: 'log' | 'linear' }, position: number) {
  const steps = Math.max(2, schedule.warmupSteps);
  if (position >= steps) return 1;
  return schedule.warmupType === 'log' ? Math.log(position + 1) / Math.log(steps) : position / steps;
}
