// Decoding with a paged key-value cache. Prompts wait until slots and blocks of the cache are free for all that they may come
// to need; what ends makes room at once, so that every run of the decoding program works for as many sequences as there are.
import { ConfigError } from '../common/index.js';
import type { Communicators, ParameterStore, TensorShare } from '../engine/index.js';
import type { Model } from '../models/index.js';
import { CacheBlocks } from './cache-blocks.js';
import { Decoder, type Row } from './decoder.js';
import { type GenerateOptions, generationSettings, type Settings } from './generation-options.js';
import { BeamJob, type Generation, type Job, type JobFacts, SampleJob, type Slots, type TokenChoice } from './jobs.js';
import { Lane } from './lane.js';

/** What a generator decodes with, and for how many sequences. */
export interface GeneratorSettings {
  readonly model: Model;
  /** The weights; stay the caller's and must outlive the generator. */
  readonly store: ParameterStore;
  /** Sequences decoded at once. */
  readonly slots: number;
  /** Longest sequence, prompt and continuation together. */
  readonly positions: number;
  /** Prompt tokens per run of the prefill program. Default 256. */
  readonly prefillRows?: number;
  /** Memory for keys and values. Default: what all slots need when they are full. With less, prompts wait. */
  readonly cacheBytes?: number;
  /**
   * Of ranks that decode together, each with its part of the heads, of the cache and of the weights in `store`: all of them are asked the
   * same at the same time, and find the same. Default: alone.
   */
  readonly share?: TensorShare;
  /** That of the share's group. */
  readonly communicators?: Communicators;
}

/** A token of a sequence as it comes, or its end. Beams only end. */
export type GenerationEvent =
  | ({ readonly kind: 'token'; readonly prompt: number; readonly sequence: number } & TokenChoice)
  | { readonly kind: 'end'; readonly generation: Generation };

/** Continues prompts of token ids, many at a time, over one paged cache. Owns its programs and the cache; weights stay the caller's. */
export class Generator implements Disposable {
  readonly #settings: GeneratorSettings;
  readonly #decoder: Decoder;
  #isBusy = false;

  /** Compiles the programs and allocates the cache. */
  constructor(settings: GeneratorSettings) {
    const { slots, positions, prefillRows = 256, cacheBytes = null } = settings;
    for (const [name, value] of Object.entries({ slots, positions, prefillRows })) {
      if (!Number.isSafeInteger(value) || value < 1) throw new ConfigError(name, 'a positive integer', value);
    }
    this.#settings = settings;
    this.#decoder = new Decoder({ ...settings, prefillRows, cacheBytes });
  }

  get model(): Model {
    return this.#settings.model;
  }

  /** Continues every prompt; results in the order of the prompts, those of one prompt together. One call at a time. */
  async generate(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<readonly Generation[]> {
    const results: Generation[] = [];
    for await (const event of this.stream(prompts, options)) if (event.kind === 'end') results.push(event.generation);
    return results.sort((a, b) => a.prompt - b.prompt || a.sequence - b.sequence);
  }

  /** Continues every prompt and tells each token as it comes. Leaving the loop early ends the call. One call at a time. */
  async *stream(
    prompts: readonly (readonly number[])[],
    options: GenerateOptions,
  ): AsyncGenerator<GenerationEvent, void, undefined> {
    const settings = generationSettings(options, this.#settings.model.eosTokenIds);
    for (const [index, prompt] of prompts.entries()) this.#checkPrompt(index, prompt);
    if (settings.numBeams > this.#settings.slots) {
      throw new ConfigError(
        'numBeams',
        `at most ${this.#settings.slots}, the slots of the generator`,
        settings.numBeams,
      );
    }
    if (this.#isBusy) throw new ConfigError('generate', 'one call at a time', 'another while one is under way');
    this.#isBusy = true;
    try {
      yield* this.#work(this.#jobs(prompts, settings), settings.signal);
    } finally {
      this.#isBusy = false;
    }
  }

  [Symbol.dispose](): void {
    this.#decoder[Symbol.dispose]();
  }

  async *#work(waiting: Job[], signal: AbortSignal | null): AsyncGenerator<GenerationEvent, void, undefined> {
    // Nothing outlives a call: blocks that others left are not looked at again.
    const pool = new CacheBlocks(this.#decoder.blockCount);
    const free = Array.from({ length: this.#settings.slots }, (_, slot) => slot).reverse();
    const slots: Slots = { take: () => free.pop()!, free: (slot) => free.push(slot) };
    let active: Job[] = [];
    while (waiting.length > 0 || active.length > 0) {
      signal?.throwIfAborted();
      const started = this.#admit(waiting, active, pool, free);
      const working = started.length > 0 ? started.map(({ job }) => job) : active;
      if (started.length > 0) await this.#prefill(started);
      else await this.#decode(active);
      const ended = new Set<Job>();
      for (const job of working) {
        const { prompt, sequence } = job.facts;
        const outcome = await job.finishStep(slots);
        if (outcome.choice) yield { kind: 'token', prompt, sequence, ...outcome.choice };
        if (outcome.ended === null) continue;
        ended.add(job);
        for (const lane of job.lanes) {
          lane.close();
          slots.free(lane.slot);
        }
        for (const generation of outcome.ended) yield { kind: 'end', generation };
      }
      if (started.length > 0) active = [...active, ...working];
      active = active.filter((job) => !ended.has(job));
    }
  }

  /** Starts what waits, in order, while there is room for all that it and the others may come to need. */
  #admit(waiting: Job[], active: readonly Job[], pool: CacheBlocks, free: number[]): readonly Start[] {
    const started: Start[] = [];
    let slots = free.length - active.reduce((sum, job) => sum + job.slotsMax - job.lanes.length, 0);
    while (waiting.length > 0) {
      const job = waiting.at(-1)!;
      const { tokens } = job.facts;
      const promised = [...active, ...started.map((start) => start.job)].reduce((sum, other) => sum + other.wants(), 0);
      const needed = job.blocksMax - pool.find(tokens.slice(0, -1)).length;
      if (slots < job.slotsMax || pool.freeCount - promised < needed) break;
      slots -= job.slotsMax;
      const twin = started.find((start) => isSame(start.job.facts.tokens, tokens));
      if (twin) {
        job.begin(twin.lane.fork(free.pop()!));
        started.push({ job, lane: job.lanes[0]!, cached: null, twin });
      } else {
        const { lane, cached } = Lane.open(pool, free.pop()!, tokens);
        job.begin(lane);
        started.push({ job, lane, cached, twin: null });
      }
      waiting.pop();
    }
    if (started.length === 0 && active.length === 0) {
      const { blocksMax } = waiting.at(-1)!.facts.settings.numBeams > 1 ? waiting.at(-1)! : { blocksMax: 0 };
      const hint = `The beams of prompts[${waiting.at(-1)!.facts.prompt}] may need ${blocksMax} blocks, the cache has ${pool.freeCount}`;
      throw new ConfigError('cacheBytes', 'room for the longest prompt alone', this.#settings.cacheBytes, hint);
    }
    return started;
  }

  /** Runs the prompts; those that begin alike are computed once. */
  async #prefill(started: readonly Start[]): Promise<void> {
    const rows = started.flatMap((start) => {
      const { lane, cached } = start;
      if (cached === null) return [];
      const alike = started.filter(({ twin }) => twin === start);
      const wanted = [start, ...alike].flatMap(({ job }) => job.requests());
      const { tokens } = lane;
      return tokens.slice(cached).map((id, i): Row => {
        const position = cached + i;
        const isLast = position === tokens.length - 1;
        return { id, position, lane, isLast, requests: isLast ? wanted : [] };
      });
    });
    await this.#decoder.run(rows, (row, logits) => {
      for (const { job, lane, twin } of started)
        if (lane === row.lane || twin?.lane === row.lane) job.take(lane, logits);
    });
  }

  async #decode(active: readonly Job[]): Promise<void> {
    const jobOf = new Map<Lane, Job>();
    for (const job of active) for (const lane of job.lanes) jobOf.set(lane, job);
    const asked = new Map(active.flatMap((job) => job.requests().map((request) => [request.lane, request])));
    const rows = Array.from(jobOf.keys(), (lane): Row => {
      const request = asked.get(lane);
      lane.prepare(this.#decoder.copyBlock);
      const position = lane.tokens.length - 1;
      return { id: lane.tokens.at(-1)!, position, lane, isLast: true, requests: request ? [request] : [] };
    });
    await this.#decoder.run(rows, (row, logits) => jobOf.get(row.lane)!.take(row.lane, logits));
  }

  /** The jobs of a call, the first last. */
  #jobs(prompts: readonly (readonly number[])[], settings: Settings): Job[] {
    const { positions } = this.#settings;
    const isBeam = settings.numBeams > 1;
    const count = isBeam ? 1 : settings.numReturnSequences;
    const jobs = prompts.flatMap((tokens, prompt) =>
      Array.from({ length: count }, (_, sequence) => {
        const vocabulary = this.model.vocabularySize;
        const facts: JobFacts = { prompt, sequence, tokens, settings, positions, vocabulary };
        return isBeam ? new BeamJob(facts) : new SampleJob(facts);
      }),
    );
    return jobs.reverse();
  }

  #checkPrompt(index: number, prompt: readonly number[]): void {
    const { positions, model } = this.#settings;
    if (prompt.length < 1 || prompt.length > positions) {
      throw new ConfigError(`prompts[${index}]`, `1 to ${positions} tokens`, prompt.length);
    }
    const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= model.vocabularySize);
    if (bad !== undefined) throw new ConfigError(`prompts[${index}]`, `ids below ${model.vocabularySize}`, bad);
  }
}

/** A job that begins: what of its prompt others have computed, or the job with the very same prompt (then nothing is left). */
interface Start {
  readonly job: Job;
  readonly lane: Lane;
  readonly cached: number | null;
  readonly twin: Start | null;
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
