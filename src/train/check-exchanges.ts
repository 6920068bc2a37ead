// The first micro-batch of a run under ZeRO++, before anything is stepped: exchanges in few bits must leave it what it is.
import { TrainingError } from '../common/index.js';
import type { ExchangeDifference } from '../engine/index.js';

/** Share of the loss by which it may be off. */
const LOSS_ERROR_MAX = 0.02;
/** |g - plain| / |plain|: gradients in 4 bits are off by 0.1 to 0.3, wrong ones by about 1. */
const GRADIENT_ERROR_MAX = 0.6;

/** Throws {@link TrainingError} where the exchanges change the first step too much. What is not finite tells nothing. */
export function expectNear({ loss, plainLoss, gradientError }: ExchangeDifference, rank: number): void {
  const lossError = Math.abs(loss / plainLoss - 1);
  if (!(lossError > LOSS_ERROR_MAX) && !(gradientError > GRADIENT_ERROR_MAX)) return;
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  throw new TrainingError({
    detail: `the exchanges of ZeRO++ change the first micro-batch of rank ${rank}: its loss is ${loss} in place of ${plainLoss}, its gradient is off by ${percent(gradientError)} (at most ${percent(LOSS_ERROR_MAX)} and ${percent(GRADIENT_ERROR_MAX)} may be). Switch zero_quantized_weights, zero_quantized_gradients or zero_hpz_partition_size off`,
  });
}
