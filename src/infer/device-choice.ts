// Tokens that the device chooses within the run that made their logits: what is asked of it, and where it is written. What the op does
// not have (typical sampling, long lists of what must not come) the host chooses by the same numbers.
import { CHOICE_WORDS } from '../engine/index.js';
import type { Sampling } from './generation-options.js';
import type { Lane } from './lane.js';
import { forbiddenIds, type History } from './sampling.js';
import { type DrawCounter, uniform, wordsOf } from './uniform.js';

/** Ids that a sequence can be told not to take. */
export const FORBIDDEN_MAX = 64;

/** The word of what is asked of a slot that names the row of the logits: -1, nothing is asked. */
export const REQUEST_ROW = 8;

/** A token that is wanted of the lane's logits. */
export interface ChoiceRequest {
  readonly lane: Lane;
  readonly sampling: Sampling;
  readonly counter: DrawCounter;
  readonly forbidden: readonly number[];
}

/** The number that a request is drawn with. */
export const numberOf = ({ sampling, counter }: Pick<ChoiceRequest, 'sampling' | 'counter'>): number =>
  uniform(sampling.seed, counter);

/** Who chooses: the device, the host, or nobody, since the likeliest is taken. */
export function requestOf(
  lane: Lane,
  history: History,
  sampling: Sampling,
  counter: DrawCounter,
  vocabulary: number,
): ChoiceRequest | 'host' | 'likeliest' {
  const forbidden = [...forbiddenIds(history, sampling)].filter((id) => id < vocabulary);
  if (!sampling.doSample && sampling.repetitionPenalty === 1 && forbidden.length === 0) return 'likeliest';
  const isTypical = sampling.doSample && sampling.typicalP < 1;
  return isTypical || forbidden.length > FORBIDDEN_MAX ? 'host' : { lane, sampling, counter, forbidden };
}

/** Writes a request about row `row` of the logits as ChoiceSettings (native/core/ops/choose_token.h). */
export function writeRequest(request: ChoiceRequest, row: number, settings: Int32Array, forbidden: Int32Array): void {
  const { lane, sampling, counter } = request;
  const { temperature, topP, minP, repetitionPenalty, topK, seed, doSample } = sampling;
  const at = lane.slot * CHOICE_WORDS;
  const numbers = new DataView(settings.buffer, settings.byteOffset + 4 * at, 32);
  for (const [i, value] of [temperature, topP, Math.log(minP), repetitionPenalty].entries())
    numbers.setFloat64(8 * i, value, true);
  const length = isPenalised(sampling) ? lane.tokens.length : 0;
  const words = [row, length, lane.tokens.at(-1)!, request.forbidden.length, Number(doSample), topK];
  settings.set(
    [...words, ...wordsOf(seed), ...counter, 0].map((word) => word | 0),
    at + REQUEST_ROW,
  );
  forbidden.set(request.forbidden, lane.slot * FORBIDDEN_MAX);
}

/** Whether the device must know what came before. */
export const isPenalised = ({ repetitionPenalty }: Sampling): boolean => repetitionPenalty !== 1;
