// How the next token is chosen from logits: greedy, or drawn with temperature, top-k, top-p and min-p; repeats held back.
import { ConfigError } from '../common/index.js';
import {
  forbidRepeatedRuns,
  keepMinP,
  keepTopK,
  keepTopP,
  penaliseRepetition,
  scaleByTemperature,
} from './logit-filters.js';

export interface Sampling {
  /** 0 (the default) takes the most likely token; above, logits are divided by it before drawing. */
  readonly temperature?: number;
  /** Draw from the k most likely tokens only; 0 (the default) means all. */
  readonly topK?: number;
  /** Draw from the fewest most likely tokens whose probabilities reach this sum; 1 (the default) means all. */
  readonly topP?: number;
  /** Draw from tokens at least this share as likely as the most likely one; 0 (the default) means all. */
  readonly minP?: number;
  /** Above 1: tokens of the prompt and the continuation become less likely. 1 (the default) changes nothing. */
  readonly repetitionPenalty?: number;
  /** No run of this many tokens comes twice; 0 (the default) allows all. */
  readonly noRepeatSize?: number;
  /** Equal seeds give equal draws for equal prompts. */
  readonly seed?: number;
}

/** Checks the options once, before anything runs. */
export function checkSampling(sampling: Sampling): void {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, noRepeatSize = 0 } = sampling;
  if (!(temperature >= 0)) throw new ConfigError('temperature', 'a number of at least 0', temperature);
  if (!Number.isSafeInteger(topK) || topK < 0) throw new ConfigError('topK', 'an integer of at least 0', topK);
  if (!(topP > 0 && topP <= 1)) throw new ConfigError('topP', 'a number above 0 and at most 1', topP);
  if (!(minP >= 0 && minP <= 1)) throw new ConfigError('minP', 'a number from 0 to 1', minP);
  if (!(repetitionPenalty > 0)) throw new ConfigError('repetitionPenalty', 'a positive number', repetitionPenalty);
  if (!Number.isSafeInteger(noRepeatSize) || noRepeatSize < 0) {
    throw new ConfigError('noRepeatSize', 'an integer of at least 0', noRepeatSize);
  }
}

/**
 * The id chosen from `logits` [V] behind the tokens of `history`; `random` gives uniform numbers in [0, 1). Of equals, the
 * smallest id wins.
 */
export function chooseToken(
  logits: Float32Array,
  sampling: Sampling,
  random: () => number,
  history: readonly number[] = [],
): number {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, noRepeatSize = 0 } = sampling;
  const scores = logits.slice();
  if (repetitionPenalty !== 1) penaliseRepetition(scores, history, repetitionPenalty);
  if (noRepeatSize > 0) forbidRepeatedRuns(scores, history, noRepeatSize);
  if (temperature === 0 || topK === 1) return largest(scores);
  scaleByTemperature(scores, temperature);
  if (topK > 0) keepTopK(scores, topK);
  if (topP < 1) keepTopP(scores, topP);
  if (minP > 0) keepMinP(scores, minP);
  return draw(scores, random);
}

/** Draws from the softmax of `scores`. */
function draw(scores: Float32Array, random: () => number): number {
  const max = scores[largest(scores)]!;
  const weights = Float64Array.from(scores, (score) => Math.exp(score - max));
  let total = 0;
  for (const weight of weights) total += weight;
  let left = random() * total;
  let chosen = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    chosen = id;
    left -= weights[id]!;
    if (left < 0) break;
  }
  return chosen;
}

function largest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}
