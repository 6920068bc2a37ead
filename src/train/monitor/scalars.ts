// Which numbers of a run are recorded, under which names: those of DeepSpeed's monitors, or those of Transformers' report_to. Pure.
import type { StepEvent } from '../progress.js';
import type { Scores } from '../recipe.js';

/** One point of a curve. */
export interface Scalar {
  readonly tag: string;
  readonly value: number;
}

/**
 * `deepspeed`: tags `Train/Samples/…` over the rows trained so far (deepspeed/runtime/engine.py). `transformers`: `train/…` and `eval/…` over
 * steps (transformers/integrations/integration_utils.py, rewrite_logs).
 */
export type ScalarNames = 'deepspeed' | 'transformers';

/** Where the points of `step` lie: rows, or steps. */
export const positionOf = (names: ScalarNames, step: number, trainBatch: number): number =>
  names === 'deepspeed' ? step * trainBatch : step;

export function stepScalars(names: ScalarNames, event: StepEvent): readonly Scalar[] {
  const { loss, learningRate, gradientNorm, epoch, tokensPerSecond, lossScale } = event;
  if (names === 'deepspeed') {
    const scale = lossScale === null ? [] : [{ tag: 'Train/Samples/loss_scale', value: lossScale }];
    return [
      { tag: 'Train/Samples/train_loss', value: loss },
      { tag: 'Train/Samples/lr', value: learningRate },
      ...scale,
    ];
  }
  return [
    { tag: 'train/loss', value: loss },
    { tag: 'train/learning_rate', value: learningRate },
    { tag: 'train/grad_norm', value: gradientNorm },
    { tag: 'train/epoch', value: epoch },
    // The pace is unknown after one step.
    ...(tokensPerSecond > 0 ? [{ tag: 'train/tokens_per_second', value: tokensPerSecond }] : []),
    ...(lossScale === null ? [] : [{ tag: 'train/loss_scale', value: lossScale }]),
  ];
}

/** Of the records held out. DeepSpeed's monitors have none. */
export function scoreScalars(names: ScalarNames, scores: Scores): readonly Scalar[] {
  if (names === 'deepspeed') return [];
  return Object.entries(scores).map(([name, value]) => ({ tag: `eval/${name}`, value }));
}
