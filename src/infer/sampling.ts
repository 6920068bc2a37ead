// How the next token is chosen from logits: the likeliest, or drawn, after what must not or should not come is held back. The
// order is that of Transformers' logits processors.
import type { Sampling } from './generation-options.js';
import {
  forbid,
  forbidBadWords,
  forbidRepeatedRuns,
  keepMinP,
  keepTopK,
  keepTopP,
  keepTypical,
  penaliseRepetition,
  scaleByTemperature,
} from './logit-filters.js';

/** Logits [V] to choose by, and the first of the largest of them. */
export interface Choices {
  readonly logits: Float32Array;
  readonly likeliest: number;
}

/** What came before: prompt and continuation, and how long the continuation is. */
export interface History {
  readonly tokens: readonly number[];
  readonly newCount: number;
}

/** Holds back what must not come, in place. Returns whether anything changed. */
export function holdBack(logits: Float32Array, history: History, sampling: Sampling): boolean {
  const { repetitionPenalty, noRepeatNgramSize, badWordsIds, minNewTokens, eosTokenIds } = sampling;
  const isEarly = history.newCount < minNewTokens && eosTokenIds.length > 0;
  if (repetitionPenalty !== 1) penaliseRepetition(logits, history.tokens, repetitionPenalty);
  if (noRepeatNgramSize > 0) forbidRepeatedRuns(logits, history.tokens, noRepeatNgramSize);
  if (badWordsIds.length > 0) forbidBadWords(logits, history.tokens, badWordsIds);
  if (isEarly) forbid(logits, eosTokenIds);
  return repetitionPenalty !== 1 || noRepeatNgramSize > 0 || badWordsIds.length > 0 || isEarly;
}

/**
 * The id chosen from the logits [V], which are changed; `random` gives uniform numbers in [0, 1). Of equals, the smallest id
 * wins.
 */
export function chooseToken(found: Choices, history: History, sampling: Sampling, random: () => number): number {
  const { logits, likeliest } = found;
  const { doSample, temperature, topK, topP, minP, typicalP } = sampling;
  const isChanged = holdBack(logits, history, sampling);
  if (!doSample) return isChanged ? largest(logits) : likeliest;
  if (temperature !== 1) scaleByTemperature(logits, temperature);
  if (topK > 0) keepTopK(logits, topK);
  if (topP < 1) keepTopP(logits, topP);
  if (minP > 0) keepMinP(logits, minP);
  if (typicalP < 1) keepTypical(logits, typicalP);
  return draw(logits, random);
}

/** Draws from the softmax of `logits`. */
function draw(logits: Float32Array, random: () => number): number {
  const max = logits[largest(logits)]!;
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (logit === Number.NEGATIVE_INFINITY) continue;
    const weight = Math.exp(logit - max);
    weights[id] = weight;
    total += weight;
  }
  let left = random() * total;
  let chosen = 0;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id]!;
    if (weight === 0) continue;
    chosen = id;
    left -= weight;
    if (left < 0) break;
  }
  return chosen;
}

function largest(logits: Float32Array): number {
  let best = 0;
  let most = logits[0]!;
  for (let id = 1; id < logits.length; id++) {
    if (logits[id]! > most) {
      most = logits[id]!;
      best = id;
    }
  }
  return best;
}
