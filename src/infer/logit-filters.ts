// What is done to logits before a token is chosen, in place, as the processors of Transformers do it. Tokens ruled out get
// minus infinity. The order of a chain is the caller's: repetition penalty, n-grams, temperature, top-k, top-p, min-p.

const OUT = Number.NEGATIVE_INFINITY;

/** Makes every token of `history` less likely by `penalty` (above 1), whatever the sign of its logit. arXiv:1909.05858 §4.1. */
export function penaliseRepetition(logits: Float32Array, history: readonly number[], penalty: number): void {
  for (const id of new Set(history)) logits[id] = logits[id]! < 0 ? logits[id]! * penalty : logits[id]! / penalty;
}

/** Rules out every token that would repeat a run of `size` tokens of `history`. */
export function forbidRepeatedRuns(logits: Float32Array, history: readonly number[], size: number): void {
  const last = history.length - (size - 1); // where the unfinished run begins
  for (let start = 0; start < last; start++) {
    let same = 0;
    while (same < size - 1 && history[start + same] === history[last + same]) same++;
    if (same === size - 1) logits[history[start + same]!] = OUT;
  }
}

export function scaleByTemperature(logits: Float32Array, temperature: number): void {
  for (let id = 0; id < logits.length; id++) logits[id] = logits[id]! / temperature;
}

/** Keeps the k largest logits, and those equal to the last of them. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k < logits.length) dropBelow(logits, logits.toSorted()[logits.length - k]!);
}

/** Keeps the fewest most likely tokens whose probabilities reach `p`, and those equal to the last of them. arXiv:1904.09751. */
export function keepTopP(logits: Float32Array, p: number): void {
  const sorted = logits.toSorted().reverse();
  const weights = sorted.map((logit) => Math.exp(logit - sorted[0]!));
  let total = 0;
  for (const weight of weights) total += weight;
  let sum = 0;
  for (const [rank, weight] of weights.entries()) {
    sum += weight;
    if (sum < p * total) continue;
    dropBelow(logits, sorted[rank]!);
    return;
  }
}

/** Keeps the tokens whose probability is at least `p` times that of the most likely one. arXiv:2407.01082. */
export function keepMinP(logits: Float32Array, p: number): void {
  dropBelow(logits, logits.reduce((most, logit) => Math.max(most, logit), OUT) + Math.log(p));
}

function dropBelow(logits: Float32Array, least: number): void {
  for (let id = 0; id < logits.length; id++) if (logits[id]! < least) logits[id] = OUT;
}
