// What is done with a prompt: one sequence whose tokens are chosen one by one, or the beams of a search. A job owns its lanes.
import { EngineError } from '../common/index.js';
import { BeamSearch, bestTokens, type Candidate } from './beam-search.js';
import type { Logits } from './decoder.js';
import { type ChoiceRequest, numberOf, requestOf } from './device-choice.js';
import type { Settings } from './generation-options.js';
import { blocksFor, type Lane } from './lane.js';
import { chooseToken, type History, holdBack } from './sampling.js';
import type { DrawCounter } from './uniform.js';

/** A token of a continuation, with what the model thought of it. */
export interface TokenChoice {
  readonly id: number;
  /** Under the model's own distribution, before anything is held back or scaled. */
  readonly logProb: number;
  /** The most likely tokens, when asked for, the best first. */
  readonly top: readonly Candidate[];
}

/** One continuation of a prompt. */
export interface Generation {
  /** Index of the prompt, and which of its sequences this is. */
  readonly prompt: number;
  readonly sequence: number;
  /** The new ids, the one that ended it included. */
  readonly ids: readonly number[];
  /** `stop`: an end id or `isStopped`. `length`: maxNewTokens reached. `full`: no position left. */
  readonly end: 'stop' | 'length' | 'full';
  /** Log-probability of each new id under the model's own distribution. Empty for beams. */
  readonly logProbs: readonly number[];
  /** The most likely tokens of each step, when asked for. */
  readonly topLogProbs: readonly (readonly Candidate[])[];
  /** [V] per new id, when asked for. */
  readonly stepLogits: readonly Float32Array[];
  /** Of a beam: log p / length ** lengthPenalty. Null where there are no beams. */
  readonly score: number | null;
}

/** What a step made of a job. */
export interface Outcome {
  readonly choice: TokenChoice | null;
  /** The sequences of a job that ended; null while it goes on. */
  readonly ended: readonly Generation[] | null;
}

/** Gives and takes back the slots of lanes. */
export interface Slots {
  take(): number;
  free(slot: number): void;
}

/** What both kinds of jobs know. */
export interface JobFacts {
  readonly prompt: number;
  readonly sequence: number;
  readonly tokens: readonly number[];
  readonly settings: Settings;
  /** Positions of the cache. */
  readonly positions: number;
  /** Ids are below this. */
  readonly vocabulary: number;
}

export interface Job {
  readonly facts: JobFacts;
  /** Lanes whose last token is to be run next. */
  readonly lanes: readonly Lane[];
  /** Slots that it takes at most. */
  readonly slotsMax: number;
  /** Blocks that it may come to hold at once. */
  readonly blocksMax: number;
  begin(lane: Lane): void;
  /** Blocks that it may still take. */
  wants(): number;
  /** What the device shall choose by the logits behind the last tokens of its lanes, before each run of them. */
  requests(): readonly ChoiceRequest[];
  /** The logits behind the last token of a lane, valid during the call. */
  take(lane: Lane, logits: Logits): void;
  /** After all lanes had their logits. */
  finishStep(slots: Slots): Promise<Outcome>;
}

/** Tokens that a sequence has in the cache when it is longest. */
function longest({ tokens, settings, positions }: JobFacts): number {
  return Math.min(tokens.length + settings.maxNewTokens - 1, positions);
}

export class SampleJob implements Job {
  readonly lanes: Lane[] = [];
  readonly slotsMax = 1;
  readonly #ids: number[] = [];
  readonly #logProbs: number[] = [];
  readonly #top: (readonly Candidate[])[] = [];
  readonly #stepLogits: Float32Array[] = [];
  /** Who chooses the next token. */
  #request: ReturnType<typeof requestOf> = 'likeliest';

  constructor(readonly facts: JobFacts) {}

  get blocksMax(): number {
    return blocksFor(longest(this.facts));
  }

  begin(lane: Lane): void {
    this.lanes.push(lane);
  }

  wants(): number {
    return this.lanes[0]!.wants(longest(this.facts));
  }

  requests(): readonly ChoiceRequest[] {
    const { settings, vocabulary } = this.facts;
    const lane = this.lanes[0]!;
    this.#request = requestOf(lane, this.#history(lane), settings, this.#counter(), vocabulary);
    return typeof this.#request === 'string' ? [] : [this.#request];
  }

  take(lane: Lane, found: Logits): void {
    const { settings } = this.facts;
    checkNumbers(found, this.facts);
    const { likeliest, top, logSum } = found;
    if (settings.hasStepLogits) this.#stepLogits.push(found.read());
    const logProbOf = (logit: number) => -Math.fround(logSum + Math.fround(top - logit));
    const { topLogProbs } = settings;
    if (topLogProbs > 0) {
      const logits = found.read();
      this.#top.push(bestTokens(logits, topLogProbs).map(({ id, logProb }) => ({ id, logProb: logProbOf(logProb) })));
    }
    let [id, logit] = [likeliest, top];
    if (this.#request === 'host') {
      // What is chosen by may be changed; what is reported is the model's own.
      const logits = found.read();
      const random = () => numberOf({ sampling: settings, counter: this.#counter() });
      id = chooseToken({ logits: logits.slice(), likeliest }, this.#history(lane), settings, random);
      logit = logits[id]!;
    } else if (this.#request !== 'likeliest') {
      ({ id, logit } = found.chosen(lane));
    }
    this.#logProbs.push(logProbOf(logit));
    this.#ids.push(id);
    lane.tokens.push(id);
  }

  #history({ tokens }: Lane): History {
    return { tokens, newCount: this.#ids.length };
  }

  #counter(): DrawCounter {
    return [this.#ids.length, this.facts.prompt, this.facts.sequence];
  }

  async finishStep(): Promise<Outcome> {
    const { prompt, sequence } = this.facts;
    const choice = { id: this.#ids.at(-1)!, logProb: this.#logProbs.at(-1)!, top: this.#top.at(-1) ?? [] };
    const end = await this.#end();
    if (end === null) return { choice, ended: null };
    const [ids, logProbs, topLogProbs, stepLogits] = [this.#ids, this.#logProbs, this.#top, this.#stepLogits];
    return {
      choice,
      ended: [{ prompt, sequence, ids, end, logProbs, topLogProbs, stepLogits, score: null }],
    };
  }

  async #end(): Promise<Generation['end'] | null> {
    const { prompt, sequence, settings, tokens, positions } = this.facts;
    const ids = this.#ids;
    if (settings.eosTokenIds.includes(ids.at(-1)!)) return 'stop';
    if (await settings.isStopped?.({ prompt, sequence, ids })) return 'stop';
    if (ids.length === settings.maxNewTokens) return 'length';
    // The last id would need a position of its own to be continued.
    return tokens.length + ids.length > positions ? 'full' : null;
  }
}

export class BeamJob implements Job {
  lanes: Lane[] = [];
  readonly #search: BeamSearch;
  readonly #inputs = new Map<Lane, readonly Candidate[]>();
  readonly #newTokensMax: number;

  constructor(readonly facts: JobFacts) {
    const { settings, tokens, positions } = facts;
    this.#newTokensMax = Math.min(settings.maxNewTokens, positions - tokens.length + 1);
    this.#search = new BeamSearch(settings, this.#newTokensMax);
  }

  get slotsMax(): number {
    return this.facts.settings.numBeams;
  }

  /** Whole blocks of the prompt are shared by all beams, the rest may come to differ. */
  get blocksMax(): number {
    const shared = blocksFor(this.facts.tokens.length) - 1;
    return shared + this.facts.settings.numBeams * (blocksFor(longest(this.facts)) - shared);
  }

  begin(lane: Lane): void {
    this.lanes.push(lane);
  }

  wants(): number {
    return this.blocksMax - new Set(this.lanes.flatMap(({ blocks }) => blocks)).size;
  }

  /** Beams are compared with each other, by the host. */
  requests(): readonly ChoiceRequest[] {
    return [];
  }

  take(lane: Lane, found: Logits): void {
    checkNumbers(found, this.facts);
    const { top, logSum } = found;
    const logits = found.read();
    for (let id = 0; id < logits.length; id++) logits[id] = -(logSum + (top - logits[id]!));
    const newCount = lane.tokens.length - this.facts.tokens.length;
    holdBack(logits, { tokens: lane.tokens, newCount }, this.facts.settings);
    this.#inputs.set(lane, bestTokens(logits, this.#search.candidateCount));
  }

  async finishStep(slots: Slots): Promise<Outcome> {
    const next = this.#search.advance(this.lanes.map((lane) => this.#inputs.get(lane)!));
    this.#inputs.clear();
    if (this.#search.isOver) return { choice: null, ended: this.#results() };
    const parents = this.lanes;
    const isParent = new Set(next.map(({ parent }) => parent));
    for (const [index, lane] of parents.entries()) {
      if (isParent.has(index)) continue;
      lane.close();
      slots.free(lane.slot);
    }
    // The first child of a beam goes on in its lane, which is forked for the others before it grows.
    const taken = new Set<Lane>();
    this.lanes = next.map(({ parent }) => {
      const lane = parents[parent]!;
      if (taken.has(lane)) return lane.fork(slots.take());
      taken.add(lane);
      return lane;
    });
    for (const [index, { id }] of next.entries()) this.lanes[index]!.tokens.push(id);
    return { choice: null, ended: null };
  }

  #results(): readonly Generation[] {
    const { prompt, settings } = this.facts;
    const cut = this.#newTokensMax === settings.maxNewTokens ? 'length' : 'full';
    return this.#search.results.map(({ ids, score }, sequence) => ({
      prompt,
      sequence,
      ids,
      end: settings.eosTokenIds.includes(ids.at(-1)!) ? 'stop' : cut,
      logProbs: [],
      topLogProbs: [],
      stepLogits: [],
      score,
    }));
  }
}

function checkNumbers({ logSum }: Logits, { prompt }: JobFacts): void {
  if (Number.isFinite(logSum)) return;
  throw new EngineError({ detail: `the logits behind prompts[${prompt}] are not numbers`, rank: null });
}
