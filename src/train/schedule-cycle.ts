// DeepSpeed's two schedules that look for a rate or cycle it, LRRangeTest and OneCycle (arXiv:1803.09820): rate and momentum as pure
// functions of the optimizer step (0 is the first), with the quirks of deepspeed/runtime/lr_schedules.py.

export interface RangeTest {
  readonly kind: 'LRRangeTest';
  readonly minRate: number;
  readonly stepSize: number;
  readonly stepRate: number;
  /** Up once every `stepSize` steps instead of a little each step. */
  readonly isStaircase: boolean;
}

export interface OneCycle {
  readonly kind: 'OneCycle';
  readonly minRate: number;
  readonly maxRate: number;
  readonly firstSteps: number;
  readonly secondSteps: number;
  /** Stairs in each half; 0: none, a little each step. */
  readonly firstStairs: number;
  readonly secondStairs: number;
  /** Steps of one unit of decay behind the cycle; 0: none. */
  readonly decaySteps: number;
  readonly decayRate: number;
  /** Null: the momentum stays as the optimizer says. */
  readonly momentum: { readonly min: number; readonly max: number; readonly decayRate: number } | null;
}

export function rangeTestRate({ minRate, stepSize, stepRate, isStaircase }: RangeTest, step: number): number {
  const interval = step / stepSize;
  return minRate * (1 + stepRate * (isStaircase ? Math.floor(interval) : interval));
}

export function oneCycleRate(cycle: OneCycle, step: number): number {
  const { minRate, maxRate, decayRate } = cycle;
  const behind = stepsBehind(cycle, step);
  if (behind === null) return minRate + (maxRate - minRate) * scale(cycle, step);
  return minRate / (1 + decayRate * decayUnits(cycle, behind));
}

/** The momentum (of Adam and Lion: beta1) of a step; null where the optimizer's own stays. */
export function oneCycleMomentum(cycle: OneCycle, step: number): number | null {
  if (cycle.momentum === null) return null;
  const { min, max, decayRate } = cycle.momentum;
  // The scheduler sets the lower bound when it is made; the cycle itself begins with the upper one.
  if (step === 0) return min;
  const behind = stepsBehind(cycle, step);
  if (behind === null) return max - (max - min) * scale(cycle, step);
  return max * (1 + decayRate * decayUnits(cycle, behind)); // the rate falls, the momentum rises
}

/** How many steps behind the end of the cycle; null on the cycle, whose last step is its first one again. */
function stepsBehind({ firstSteps, secondSteps }: OneCycle, step: number): number | null {
  const total = firstSteps + secondSteps;
  return step <= total ? null : step - total;
}

function decayUnits({ decaySteps }: OneCycle, behind: number): number {
  return decaySteps === 0 ? 0 : behind / decaySteps;
}

/** 0 at the ends of the cycle, 1 at its top. */
function scale(cycle: OneCycle, step: number): number {
  const { firstSteps, secondSteps, firstStairs, secondStairs } = cycle;
  const position = step % (firstSteps + secondSteps);
  const isFirst = position <= firstSteps;
  const [done, of] = isFirst ? [position, firstSteps] : [firstSteps + secondSteps - position, secondSteps];
  const stairs = isFirst ? firstStairs : secondStairs;
  // Multiplied before it is divided: a share that is rounded down may miss the stair that it is on.
  return stairs === 0 ? done / of : Math.floor((done * stairs) / of) / stairs;
}
