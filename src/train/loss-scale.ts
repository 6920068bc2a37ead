// The dynamic loss scale of fp16 training as a pure state machine (DeepSpeed, runtime/fp16/loss_scaler.py).
//
//   overflow, hysteresis left   → one less left
//   overflow, none left         → scale halves, not below the floor; at the floor training cannot go on
//   good behind `windowSteps` good steps (or a multiple) → scale doubles, hysteresis refills
//
// A step that overflows changes no parameter; that is the caller's part.
import { TrainingError } from '../common/index.js';

/** When the scale of a float16 run grows and shrinks, under `fp16` of a ds_config. */
export interface LossScaleSettings {
  /** The first scale is 2 to this power. */
  readonly initialScalePower: number;
  /** Good steps in a row before the scale doubles. */
  readonly windowSteps: number;
  /** Overflows that are let pass before the scale halves, the halving one included. */
  readonly hysteresis: number;
  readonly minScale: number;
  /** Any good step refills the hysteresis, not only a doubling. */
  readonly isHysteresisConsecutive: boolean;
}

/** How a run scales its losses: as DeepSpeed moves the scale, or by a number that stays. */
export type LossScaling =
  | ({ readonly kind: 'dynamic' } & LossScaleSettings)
  | { readonly kind: 'static'; readonly scale: number };

/** Where the dynamic scale of a float16 run stands (DeepSpeed's DynamicLossScaler). */
export interface LossScale {
  readonly scale: number;
  readonly hysteresisLeft: number;
  /** Steps since the last overflow (or since the start). */
  readonly goodSteps: number;
}

/** The scale before the first step: 2 to the power that is given. */
export function startLossScale(settings: LossScaleSettings): LossScale {
  return { scale: 2 ** settings.initialScalePower, hysteresisLeft: settings.hysteresis, goodSteps: 0 };
}

/** The scale after a step. Throws TrainingError for an overflow at the smallest scale. */
export function nextLossScale(state: LossScale, hasOverflow: boolean, settings: LossScaleSettings): LossScale {
  const { scale, hysteresisLeft } = state;
  const { minScale, hysteresis, windowSteps } = settings;
  if (hasOverflow) {
    if (hysteresisLeft > 1) return { scale, hysteresisLeft: hysteresisLeft - 1, goodSteps: 0 };
    if (scale === minScale) {
      throw new TrainingError({
        detail: `gradients overflow at the smallest loss scale, ${minScale}. Lower the learning rate, or train in bf16, which has the range of float32`,
      });
    }
    return { scale: Math.max(scale / 2, minScale), hysteresisLeft, goodSteps: 0 };
  }
  const doubles = state.goodSteps > 0 && state.goodSteps % windowSteps === 0;
  return {
    scale: doubles ? 2 * scale : scale,
    hysteresisLeft: doubles || settings.isHysteresisConsecutive ? hysteresis : hysteresisLeft,
    goodSteps: state.goodSteps + 1,
  };
}
