// A model that is trained and generates in turns, with the same resident weights (DeepSpeed-Chat's hybrid engine): nothing is written
// to disk and nothing leaves the rank in between. Where a rank holds the whole model, decoding reads the very memory that training
// steps; where it holds parts (ZeRO stage 3, a stage of a pipeline) or an adapter beside a frozen model, the weights are gathered and
// added up into memory of their own, once after each step that changed them.
import { createHash } from 'node:crypto';
import { ConfigError } from '../common/index.js';
import { LowRankSum, type MemoryFigures, ParameterStore, parameterGraph, type TrainStep } from '../engine/index.js';
import { isAdapted, type Model, mergedWeights } from '../models/index.js';
import type { GenerateOptions } from './generation-options.js';
import { Generator } from './generator.js';
import {
  decodedLayout,
  decodedModel,
  decodeShare,
  type GenerationMemory,
  type GenerationSizes,
  generationMemory,
  needsOwnWeights,
  type TrainingShape,
} from './hybrid-memory.js';
import type { Generation } from './jobs.js';

/** What generation between two steps may take. */
export interface HybridSettings {
  /** The model that `train` trains, its adapter included. */
  readonly model: Model;
  /** Tokens of a sequence at most, prompt and continuation. Default: 512, or the positions of the model where it has fewer. */
  readonly maxOutTokens?: number;
  /** Sequences decoded at once. Default 16. */
  readonly slots?: number;
  /** Prompt tokens per run of the prefill program. Default 256. */
  readonly prefillRows?: number;
  /** Frees the cache and the decoding programs after each call of generate(). Default false. */
  readonly releaseInferenceCache?: boolean;
  /** Keeps the memory of gathered and merged weights between two calls. Default true. */
  readonly pinParameters?: boolean;
}

/** Bytes of a rank in either mode, from the plans of both. */
export interface HybridMemory {
  readonly training: MemoryFigures;
  readonly generation: GenerationMemory;
}

const MAX_OUT_TOKENS = 512;
const SLOTS = 16;
const PREFILL_ROWS = 256;

/** With the defaults filled in. */
export function generationSizes({
  model,
  maxOutTokens = Math.min(MAX_OUT_TOKENS, model.maxPositions),
  slots = SLOTS,
  prefillRows = PREFILL_ROWS,
}: HybridSettings): GenerationSizes {
  return { slots, positions: maxOutTokens, prefillRows };
}

/** Generates with the weights that a training job has now. All ranks of the job must call it together. */
export class HybridEngine implements Disposable {
  readonly #train: TrainStep;
  readonly #device: ParameterStore['device'];
  readonly #model: Model;
  readonly #settings: HybridSettings;
  /** What decoding needs the weights of: the model, or the base that the adapter is added into. */
  readonly #whole: Model;
  readonly #sizes: GenerationSizes;
  #weights: { readonly store: ParameterStore; updates: number | null } | null = null;
  #generator: Generator | null = null;

  /** `train` stays the caller's. Nothing is allocated before the first call of generate(). */
  constructor(train: TrainStep, settings: HybridSettings) {
    const { model } = settings;
    this.#train = train;
    this.#device = train.parameters.device;
    this.#model = model;
    this.#settings = settings;
    this.#whole = decodedModel(model);
    this.#sizes = generationSizes(settings);
  }

  /** Whether generation has weights of its own, beside training's. */
  get hasOwnWeights(): boolean {
    return needsOwnWeights(this.#shape, this.#model);
  }

  get memory(): HybridMemory {
    const { compiled } = this.#train;
    return { training: compiled.memory, generation: generationMemory(this.#shape, this.#model, this.#sizes) };
  }

  get #shape(): TrainingShape {
    const { compiled, strategy } = this.#train;
    return { kind: compiled.kind, layout: compiled.layout, mesh: strategy.mesh };
  }

  /**
   * Continues every prompt with the weights as they are now. Where ranks hold parts of the model all of them must call this after the
   * same steps, each with prompts of its own; ranks that decode together (`mesh.generation`) with the same prompts and options, and find the same.
   * Not while a step is under way.
   */
  async generate(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<readonly Generation[]> {
    const store = this.hasOwnWeights ? await this.#gathered() : this.#train.parameters;
    const { strategy, communicators } = this.#train;
    const share = decodeShare(strategy.mesh, strategy.rank);
    if (share) await this.#expectSame(prompts, options);
    this.#generator ??= new Generator({
      model: this.#whole,
      store,
      ...this.#sizes,
      ...(share && { share, communicators }),
    });
    try {
      return await this.#generator.generate(prompts, options);
    } finally {
      const { releaseInferenceCache = false, pinParameters = true } = this.#settings;
      if (releaseInferenceCache || (!pinParameters && this.hasOwnWeights)) this.#freeGenerator();
      if (!pinParameters) this.#freeWeights();
    }
  }

  /** Frees everything that generation took; the next call takes it again. */
  release(): void {
    this.#freeGenerator();
    this.#freeWeights();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /** The weights, read again if steps have changed them since. */
  async #gathered(): Promise<ParameterStore> {
    this.#weights ??= {
      store: new ParameterStore(this.#device, decodedLayout(this.#shape, this.#model), 0, this.#place),
      updates: null,
    };
    const { store, updates } = this.#weights;
    if (updates === this.#train.updates) return store;
    const plain = (name: string) => this.#train.gatherParameter(name);
    using sum = new LowRankSum(this.#device);
    const read = isAdapted(this.#model) ? mergedWeights(this.#model, plain, sum) : plain;
    for (const name of parameterGraph(this.#whole).parameters.keys()) store.load(name, await read(name));
    this.#weights.updates = this.#train.updates;
    return store;
  }

  /** This rank's place among those that it decodes with. */
  get #place(): number {
    const { mesh, rank } = this.#train.strategy;
    return decodeShare(mesh, rank)?.rank ?? 0;
  }

  /** Ranks that decode together would wait for each other for ever, or mix up their sequences, if they were asked different things. */
  async #expectSame(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<void> {
    const hash = createHash('sha256')
      .update(JSON.stringify([prompts, options]))
      .digest();
    if (await this.#train.isSameInGroup('generation', hash)) return;
    throw new ConfigError('generate', 'the same prompts and options on all ranks that decode together', 'others');
  }

  #freeGenerator(): void {
    this.#generator?.[Symbol.dispose]();
    this.#generator = null;
  }

  #freeWeights(): void {
    this.#weights?.store[Symbol.dispose]();
    this.#weights = null;
  }
}
