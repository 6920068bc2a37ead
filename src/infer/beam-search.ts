// Beam search as Transformers does it: which sequences go on, which are complete, and when it is over. Pure.
import type { Settings } from './generation-options.js';
import { kthLargest } from './logit-filters.js';

/** A token that may come next behind a running beam. */
export interface Candidate {
  readonly id: number;
  readonly logProb: number;
}

/** A beam goes on as beam `parent` with one more token. */
export interface Continuation {
  readonly parent: number;
  readonly id: number;
}

/** A complete sequence: its new ids and log p / length ** lengthPenalty. */
export interface Hypothesis {
  readonly ids: readonly number[];
  readonly score: number;
}

type BeamSettings = Pick<
  Settings,
  'numBeams' | 'lengthPenalty' | 'earlyStopping' | 'eosTokenIds' | 'numReturnSequences'
>;

/** The hypotheses of one prompt: given the log-probabilities of each step, says which go on. */
export class BeamSearch {
  readonly #settings: BeamSettings;
  /** No sequence gets longer. */
  readonly #maxNewTokens: number;
  #running: Hypothesis[];
  #complete: Hypothesis[] = [];
  #length = 0;
  #canImprove = true;
  #isOver = false;

  constructor(settings: BeamSettings, maxNewTokens: number) {
    this.#settings = settings;
    this.#maxNewTokens = maxNewTokens;
    this.#running = [{ ids: [], score: 0 }];
  }

  /** New ids of the beams that go on, the best first; scores are plain sums of log-probabilities. */
  get running(): readonly Hypothesis[] {
    return this.#running;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** How many candidates a step needs of each beam at most. */
  get candidateCount(): number {
    return Math.max(2, 1 + this.#settings.eosTokenIds.length) * this.#settings.numBeams;
  }

  /**
   * One step: `inputs` are the best candidates of each of {@link running}. Returns how the beams go on, in order; none when it
   * is over.
   */
  advance(inputs: readonly (readonly Candidate[])[]): readonly Continuation[] {
    const { numBeams, eosTokenIds, earlyStopping } = this.#settings;
    const candidates = inputs
      .flatMap((beam, parent) =>
        beam.map(({ id, logProb }) => ({ parent, id, score: this.#running[parent]!.score + logProb })),
      )
      .sort((a, b) => b.score - a.score || a.parent - b.parent || a.id - b.id)
      .slice(0, this.candidateCount);
    this.#length += 1;
    const isLast = this.#length === this.#maxNewTokens;
    const ends = candidates.map(({ id }) => isLast || eosTokenIds.includes(id));
    const ids = (candidate: Continuation) => [...this.#running[candidate.parent]!.ids, candidate.id];

    // Only the best numBeams candidates may become complete; the others had a better one before them.
    const isFull = this.#complete.length === numBeams && earlyStopping === true;
    if (!isFull && this.#canImprove) {
      for (const [rank, candidate] of candidates.slice(0, numBeams).entries()) {
        if (!ends[rank]) continue;
        this.#complete.push({ ids: ids(candidate), score: this.#normalised(candidate.score, this.#length) });
      }
      this.#complete.sort((a, b) => b.score - a.score);
      this.#complete.length = Math.min(this.#complete.length, numBeams);
    }

    const next = candidates.filter((_, rank) => !ends[rank]).slice(0, numBeams);
    this.#isOver = isLast || next.length === 0;
    if (!this.#isOver) {
      this.#running = next.map((candidate) => ({ ids: ids(candidate), score: candidate.score }));
      this.#canImprove &&= this.#improves();
      this.#isOver = !this.#canImprove || (this.#complete.length === numBeams && earlyStopping === true);
    }
    return this.#isOver ? [] : next;
  }

  /** The best sequences, as many as asked for. */
  get results(): readonly Hypothesis[] {
    return this.#complete.slice(0, this.#settings.numReturnSequences);
  }

  /** Whether the best running beam may still beat the worst complete one. */
  #improves(): boolean {
    const { numBeams, earlyStopping, lengthPenalty } = this.#settings;
    if (this.#complete.length < numBeams) return true;
    const length = earlyStopping === 'never' && lengthPenalty > 0 ? this.#maxNewTokens : this.#length;
    return this.#normalised(this.#running[0]!.score, length) > this.#complete.at(-1)!.score;
  }

  #normalised(score: number, length: number): number {
    return score / length ** this.#settings.lengthPenalty;
  }
}

/** The `count` likeliest tokens, the best first; those ruled out are left out. */
export function bestTokens(logProbs: Float32Array, count: number): readonly Candidate[] {
  const least = count < logProbs.length ? kthLargest(logProbs, count) : Number.NEGATIVE_INFINITY;
  const found: Candidate[] = [];
  for (let id = 0; id < logProbs.length; id++) {
    const logProb = logProbs[id]!;
    if (logProb >= least && logProb > Number.NEGATIVE_INFINITY) found.push({ id, logProb });
  }
  return found.sort((a, b) => b.logProb - a.logProb || a.id - b.id).slice(0, count);
}
