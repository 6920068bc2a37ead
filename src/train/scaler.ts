// What a 16-bit run carries from step to step: its loss scale, and how many steps changed nothing because their gradients were
// not finite. Pure; every rank computes it from the norm that all of them share, so that it is the same everywhere.
import { TrainingError } from '../common/index.js';
import { type LossScale, type LossScaling, nextLossScale, startLossScale } from './loss-scale.js';

export interface ScalerState {
  /** Of the coming step; null for runs that do not scale. */
  readonly lossScale: LossScale | null;
  readonly skippedSteps: number;
  /** Of the last steps, how many were skipped one after the other. */
  readonly skippedInARow: number;
}

/** Where no loss scale can give way, this many skipped steps in a row end the run: nothing would change any more. */
const SKIPPED_IN_A_ROW_MAX = 16;

export function startScaler(scaling: LossScaling | null): ScalerState {
  if (scaling === null) return { lossScale: null, skippedSteps: 0, skippedInARow: 0 };
  const fixed = { hysteresisLeft: 1, goodSteps: 0 };
  const lossScale = scaling.kind === 'static' ? { scale: scaling.scale, ...fixed } : startLossScale(scaling);
  return { lossScale, skippedSteps: 0, skippedInARow: 0 };
}

/** The state after a step. Throws TrainingError for an overflow at the smallest scale, and for endless ones. */
export function nextScaler(state: ScalerState, isSkipped: boolean, scaling: LossScaling | null): ScalerState {
  const { lossScale } = state;
  const skippedSteps = state.skippedSteps + (isSkipped ? 1 : 0);
  const skippedInARow = isSkipped ? state.skippedInARow + 1 : 0;
  if (lossScale && scaling?.kind === 'dynamic')
    return { lossScale: nextLossScale(lossScale, isSkipped, scaling), skippedSteps, skippedInARow };
  if (skippedInARow >= SKIPPED_IN_A_ROW_MAX) {
    const hint = lossScale ? 'Lower fp16.loss_scale, or set it to 0 for a dynamic one' : 'Lower the learning rate';
    throw new TrainingError({
      detail: `the gradients of ${skippedInARow} steps in a row were not finite, so that nothing was trained. ${hint}, or train in float32`,
    });
  }
  return { lossScale, skippedSteps, skippedInARow };
}
