// How the next token is chosen from logits: the likeliest, or drawn, after what must not or should not come is held back. The
// order is that of Transformers' logits processors.
import { weightOf } from './choice-weights.js';
import type { Sampling } from './generation-options.js';
import {
  endsOfBadWords,
  endsOfRepeatedRuns,
  forbid,
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

/** Tokens that must not come. */
export function forbiddenIds({ tokens, newCount }: History, sampling: Sampling): ReadonlySet<number> {
  const { noRepeatNgramSize, badWordsIds, minNewTokens, eosTokenIds } = sampling;
  return new Set([
    ...(noRepeatNgramSize > 0 ? endsOfRepeatedRuns(tokens, noRepeatNgramSize) : []),
    ...endsOfBadWords(tokens, badWordsIds),
    ...(newCount < minNewTokens ? eosTokenIds : []),
  ]);
}

/** Holds back what must not or should not come, in place. Returns whether anything changed. */
export function holdBack(logits: Float32Array, history: History, sampling: Sampling): boolean {
  const { repetitionPenalty } = sampling;
  const forbidden = forbiddenIds(history, sampling);
  if (repetitionPenalty !== 1) penaliseRepetition(logits, history.tokens, repetitionPenalty);
  forbid(logits, forbidden);
  return repetitionPenalty !== 1 || forbidden.size > 0;
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
  const best = largest(logits);
  const weigh = weightOf(logits, logits[best]!);
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let id = 0; id < weights.length; id++) {
    weights[id] = weigh(logits[id]!);
    total += weights[id]!;
  }
  let left = Math.min(Math.floor(random() * total), total - 1); // the product may round up
  for (let id = 0; id < weights.length; id++) {
    left -= weights[id]!;
    if (left < 0) return id;
  }
  return best;
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
