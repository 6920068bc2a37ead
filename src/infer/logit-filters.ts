// What is done to logits before a token is chosen, in place, as the processors of Transformers do it. Tokens ruled out get
// minus infinity. The order of a chain is the caller's.
import { weightOf } from './choice-weights.js';

const OUT = Number.NEGATIVE_INFINITY;

/** Makes every token of `history` less likely by `penalty` (above 1), whatever the sign of its logit. arXiv:1909.05858 §4.1. */
export function penaliseRepetition(logits: Float32Array, history: readonly number[], penalty: number): void {
  for (const id of new Set(history)) logits[id] = logits[id]! < 0 ? logits[id]! * penalty : logits[id]! / penalty;
}

/** The tokens that would repeat a run of `size` tokens of `history`. */
export function endsOfRepeatedRuns(history: readonly number[], size: number): readonly number[] {
  const ends: number[] = [];
  const last = history.length - (size - 1); // where the unfinished run begins
  for (let start = 0; start < last; start++) {
    let same = 0;
    while (same < size - 1 && history[start + same] === history[last + same]) same++;
    if (same === size - 1) ends.push(history[start + same]!);
  }
  return ends;
}

/** Divides all logits, in place. */
export function scaleByTemperature(logits: Float32Array, temperature: number): void {
  for (let id = 0; id < logits.length; id++) logits[id] = logits[id]! / temperature;
}

/** Rules out tokens. */
export function forbid(logits: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) logits[id] = OUT;
}

/** The last token of every run of `words` whose other tokens `history` ends with. */
export function endsOfBadWords(history: readonly number[], words: readonly (readonly number[])[]): readonly number[] {
  const begun = words.filter((word) => {
    const start = history.length - (word.length - 1);
    return start >= 0 && word.every((id, i) => i === word.length - 1 || history[start + i] === id);
  });
  return begun.map((word) => word.at(-1)!);
}

/** Keeps the k largest logits, and those equal to the last of them. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k < logits.length) dropBelow(logits, kthLargest(logits, k));
}

/** Keeps the fewest most likely tokens whose probabilities reach `p`, and those equal to the last of them. arXiv:1904.09751. */
export function keepTopP(logits: Float32Array, p: number): void {
  const weigh = weightOf(logits, largestOf(logits));
  let total = 0;
  for (const logit of logits) total += weigh(logit);
  // The tokens that reach p are nearly always few: sorted are only as many as it takes.
  for (let count = 256; ; count *= 8) {
    const least = count < logits.length ? kthLargest(logits, count) : OUT;
    let sum = 0;
    for (const logit of logits
      .filter((value) => value >= least && value !== OUT)
      .sort()
      .reverse()) {
      sum += weigh(logit);
      if (sum < p * total) continue;
      dropBelow(logits, logit);
      return;
    }
    if (least === OUT) return;
  }
}

/** Keeps the tokens whose probability is at least `p` times that of the most likely one. arXiv:2407.01082. */
export function keepMinP(logits: Float32Array, p: number): void {
  dropBelow(logits, largestOf(logits) + Math.log(p));
}

/**
 * Keeps the tokens whose surprise is nearest to the expected one, the fewest whose probabilities reach `p`.
 * Locally typical sampling, arXiv:2202.00666.
 */
export function keepTypical(logits: Float32Array, p: number): void {
  const max = largestOf(logits);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - max));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const surprises = Float64Array.from(logits, (logit) => Math.log(total) - (logit - max));
  let entropy = 0;
  for (const [id, weight] of weights.entries()) if (weight > 0) entropy += (weight / total) * surprises[id]!;
  const distances = surprises.map((surprise) => Math.abs(surprise - entropy));
  const order = Array.from(logits.keys()).sort((a, b) => distances[a]! - distances[b]! || a - b);
  let sum = 0;
  const last = order.find((id) => {
    sum += weights[id]! / total;
    return sum >= p;
  });
  const most = distances[last ?? order.at(-1)!]!;
  for (let id = 0; id < logits.length; id++) if (distances[id]! > most) logits[id] = OUT;
}

/** The k-th largest of `values`: a heap of the k largest so far, the smallest of them on top. */
export function kthLargest(values: Float32Array, k: number): number {
  const heap = values.slice(0, k).sort();
  for (let i = k; i < values.length; i++) {
    const value = values[i]!;
    if (!(value > heap[0]!)) continue;
    let at = 0;
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= value) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = value;
  }
  return heap[0]!;
}

function largestOf(logits: Float32Array): number {
  let most = OUT;
  for (let id = 0; id < logits.length; id++) if (logits[id]! > most) most = logits[id]!;
  return most;
}

function dropBelow(logits: Float32Array, least: number): void {
  for (let id = 0; id < logits.length; id++) if (logits[id]! < least) logits[id] = OUT;
}
