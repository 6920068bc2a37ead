// What a 16-bit run carries from step to step: its loss scale, and how many steps changed nothing because their gradients were
// not finite. Pure; every rank computes it from the norm that all of them share, so that it is the same everywhere.
import { type LossScale, type LossScaling, nextLossScale, startLossScale } from './loss-scale.js';

export interface ScalerState {
  /** Of the coming step; null for runs that do not scale. */
  readonly lossScale: LossScale | null;
  readonly skippedSteps: number;
}

export function startScaler(scaling: LossScaling | null): ScalerState {
  if (scaling === null) return { lossScale: null, skippedSteps: 0 };
  const fixed = { hysteresisLeft: 1, goodSteps: 0 };
  const lossScale = scaling.kind === 'static' ? { scale: scaling.scale, ...fixed } : startLossScale(scaling);
  return { lossScale, skippedSteps: 0 };
}

/** The state after a step. Throws TrainingError for an overflow at the smallest scale. */
export function nextScaler(state: ScalerState, isSkipped: boolean, scaling: LossScaling | null): ScalerState {
  const { lossScale } = state;
  const skippedSteps = state.skippedSteps + (isSkipped ? 1 : 0);
  if (!lossScale || scaling?.kind !== 'dynamic') return { lossScale, skippedSteps };
  return { lossScale: nextLossScale(lossScale, isSkipped, scaling), skippedSteps };
}
