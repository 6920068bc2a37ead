// Decoding with a key-value cache: a fixed number of slots, each a sequence. A slot that ends takes the next prompt at once,
// so that every run of the decode program works for as many sequences as there are.
import { ConfigError } from '../common/index.js';
import { compileDecode, DeviceBuffers, type ParameterStore, Program } from '../engine/index.js';
import { type Model, seededRandom } from '../models/index.js';
import { checkSampling, chooseToken, type Sampling } from './sampling.js';

export interface GeneratorSettings {
  readonly model: Model;
  /** The weights; stay the caller's and must outlive the generator. */
  readonly store: ParameterStore;
  /** Sequences decoded at once. */
  readonly slots: number;
  /** Longest sequence, prompt and continuation together. */
  readonly positions: number;
  /** Prompt tokens per run of the prefill program. */
  readonly prefillRows?: number;
}

export interface GenerateOptions extends Sampling {
  readonly maxNewTokens: number;
  /** Ids that end a sequence. Default: those of the model's configuration. */
  readonly stopIds?: readonly number[];
  /** Also return the logits that each token was chosen from. */
  readonly hasStepLogits?: boolean;
  readonly signal?: AbortSignal;
}

export interface Generation {
  /** The new ids, the stop id included when one ended it. */
  readonly ids: readonly number[];
  /** `stop`: a stop id came. `length`: maxNewTokens reached. `full`: no position left. */
  readonly end: 'stop' | 'length' | 'full';
  /** [V] per new id, when asked for. */
  readonly stepLogits: readonly Float32Array[];
}

/** A sequence in a slot. */
interface Sequence {
  readonly prompt: readonly number[];
  readonly index: number;
  readonly slot: number;
  readonly random: () => number;
  readonly ids: number[];
  readonly stepLogits: Float32Array[];
}

interface Row {
  readonly id: number;
  readonly position: number;
  readonly slot: number;
  /** The sequence whose next token this row decides. */
  readonly decides: Sequence | null;
}

export class Generator implements Disposable {
  readonly #settings: GeneratorSettings;
  readonly #buffers: DeviceBuffers;
  readonly #prefill: Program;
  readonly #decode: Program;

  /** Compiles both programs and allocates the cache. */
  constructor(settings: GeneratorSettings) {
    const { model, store, slots, positions, prefillRows = 256 } = settings;
    this.#settings = settings;
    // One slot more than sequences: rows of padding write there.
    const shape = { model, slots: slots + 1, positions, logitRows: slots };
    const prefill = compileDecode({ ...shape, rows: prefillRows }, store.layout);
    const decode = compileDecode({ ...shape, rows: slots }, store.layout);
    this.#buffers = new DeviceBuffers(store.device);
    store.lendTo(this.#buffers);
    this.#buffers.reserve([prefill, decode]);
    this.#prefill = new Program(store.device, prefill, this.#buffers);
    this.#decode = new Program(store.device, decode, this.#buffers);
  }

  /** Continues every prompt; results in the order of the prompts. One call at a time. */
  async generate(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<readonly Generation[]> {
    const { maxNewTokens, signal } = options;
    checkSampling(options);
    if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 1) {
      throw new ConfigError('maxNewTokens', 'a positive integer', maxNewTokens);
    }
    for (const [index, prompt] of prompts.entries()) this.#checkPrompt(index, prompt);
    const stopIds = new Set(options.stopIds ?? this.#settings.model.eosTokenIds);
    const results: Generation[] = [];
    const waiting = prompts.map((prompt, index) => ({ prompt, index })).reverse();
    const free = Array.from({ length: this.#settings.slots }, (_, slot) => slot).reverse();
    let active: Sequence[] = [];

    while (waiting.length > 0 || active.length > 0) {
      signal?.throwIfAborted();
      const started: Sequence[] = [];
      while (waiting.length > 0 && free.length > 0) {
        const next = waiting.pop()!;
        const random = seededRandom(`${options.seed ?? 0}/${next.index}`);
        started.push({ ...next, slot: free.pop()!, random, ids: [], stepLogits: [] });
      }
      if (started.length > 0) await this.#run(this.#prefill, started.flatMap(promptRows), options);
      active.push(...started);
      active = active.filter((sequence) => {
        const end = this.#endOf(sequence, maxNewTokens, stopIds);
        if (end === null) return true;
        results[sequence.index] = { ids: sequence.ids, end, stepLogits: sequence.stepLogits };
        free.push(sequence.slot);
        return false;
      });
      if (waiting.length > 0 && free.length > 0) continue; // fill slots that ended before the next step
      if (active.length > 0) await this.#run(this.#decode, active.map(nextRow), options);
    }
    return results;
  }

  [Symbol.dispose](): void {
    this.#prefill.dispose();
    this.#decode.dispose();
    this.#buffers.dispose();
  }

  /** Runs `rows` in as many runs as they need, and appends the chosen tokens to the sequences they decide. */
  async #run(program: Program, rows: readonly Row[], options: GenerateOptions): Promise<void> {
    const inputs = {
      ids: program.integers('ids'),
      positions: program.integers('positions'),
      slots: program.integers('slots'),
    };
    const size = inputs.ids.length;
    const vocabulary = this.#settings.model.vocabularySize;
    for (let start = 0; start < rows.length; start += size) {
      const part = rows.slice(start, start + size);
      const decided: Sequence[] = [];
      const index = program.integers('index').fill(0);
      for (let i = 0; i < size; i++) {
        const row = part[i];
        inputs.ids[i] = row?.id ?? 0;
        inputs.positions[i] = row?.position ?? 0;
        inputs.slots[i] = row?.slot ?? this.#settings.slots;
        if (row?.decides) index[decided.push(row.decides) - 1] = i;
      }
      await program.run();
      const logits = program.floats('logits');
      for (const [i, sequence] of decided.entries()) {
        const own = logits.subarray(i * vocabulary, (i + 1) * vocabulary);
        if (options.hasStepLogits) sequence.stepLogits.push(own.slice());
        sequence.ids.push(chooseToken(own, options, sequence.random, [...sequence.prompt, ...sequence.ids]));
      }
    }
  }

  #endOf({ ids, prompt }: Sequence, maxNewTokens: number, stopIds: ReadonlySet<number>): Generation['end'] | null {
    if (stopIds.has(ids.at(-1)!)) return 'stop';
    if (ids.length === maxNewTokens) return 'length';
    // The last id would need a position of its own to be continued.
    return prompt.length + ids.length > this.#settings.positions ? 'full' : null;
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

function promptRows(sequence: Sequence): readonly Row[] {
  const { prompt, slot } = sequence;
  return prompt.map((id, position) => ({
    id,
    position,
    slot,
    decides: position === prompt.length - 1 ? sequence : null,
  }));
}

function nextRow(sequence: Sequence): Row {
  const { prompt, ids, slot } = sequence;
  return { id: ids.at(-1)!, position: prompt.length + ids.length - 1, slot, decides: sequence };
}
