// How the next token is chosen from logits: greedy, or drawn with temperature, top-k and top-p.
import { ConfigError } from '../common/index.js';

export interface Sampling {
  /** 0 (the default) takes the most likely token; above, logits are divided by it before drawing. */
  readonly temperature?: number;
  /** Draw from the k most likely tokens only; 0 (the default) means all. */
  readonly topK?: number;
  /** Draw from the fewest most likely tokens whose probabilities reach this sum; 1 (the default) means all. */
  readonly topP?: number;
  /** Equal seeds give equal draws for equal prompts. */
  readonly seed?: number;
}

/** Checks the options once, before anything runs. */
export function checkSampling({ temperature = 0, topK = 0, topP = 1 }: Sampling): void {
  if (!(temperature >= 0)) throw new ConfigError('temperature', 'a number of at least 0', temperature);
  if (!Number.isSafeInteger(topK) || topK < 0) throw new ConfigError('topK', 'an integer of at least 0', topK);
  if (!(topP > 0 && topP <= 1)) throw new ConfigError('topP', 'a number above 0 and at most 1', topP);
}

/** The id chosen from `logits` [V]; `random` gives uniform numbers in [0, 1). Of equals, the smallest id wins. */
export function chooseToken(logits: Float32Array, sampling: Sampling, random: () => number): number {
  const { temperature = 0, topK = 0, topP = 1 } = sampling;
  if (temperature === 0 || topK === 1) return largest(logits);
  const max = logits[largest(logits)]!;
  const weights = new Float64Array(logits.length);
  for (let id = 0; id < logits.length; id++) weights[id] = Math.exp((logits[id]! - max) / temperature);
  const least = leastKept(weights, topK, topP);
  let total = 0;
  for (const weight of weights) if (weight >= least) total += weight;
  let left = random() * total;
  let chosen = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id]! < least) continue;
    chosen = id;
    left -= weights[id]!;
    if (left < 0) break;
  }
  return chosen;
}

/** The smallest weight that top-k, and then top-p among what it left, keep. Ties with it are kept too. */
function leastKept(weights: Float64Array, topK: number, topP: number): number {
  const isAll = topK === 0 || topK >= weights.length;
  if (isAll && topP === 1) return 0;
  const sorted = weights.toSorted().reverse();
  const kept = isAll ? sorted : sorted.subarray(0, topK);
  if (topP === 1) return kept.at(-1)!;
  let total = 0;
  for (const weight of kept) total += weight;
  let sum = 0;
  for (const weight of kept) {
    sum += weight;
    if (sum >= topP * total) return weight;
  }
  return kept.at(-1)!;
}

function largest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}
