// Prompts and continuations as text: a generator behind a tokenizer, with stop strings.
import { ConfigError } from '../common/index.js';
import { loadTokenizer, type Tokenizer } from '../data/index.js';
import { createDevice, type FloatType, layoutOf, ParameterStore } from '../engine/index.js';
import { Checkpoint, storedType } from '../models/index.js';
import type { GenerateOptions } from './generation-options.js';
import { type GenerationEvent, Generator, type GeneratorSettings } from './generator.js';
import type { Generation, TokenChoice } from './jobs.js';
import { TextStream } from './text-stream.js';

/** How texts are generated. */
export interface TextOptions extends Omit<GenerateOptions, 'isStopped'> {
  /** The text ends before the first of these, also where it begins or ends inside a token. Not with beams. */
  readonly stopStrings?: readonly string[];
  /** Keep the stop string at the end of the text. Default false. */
  readonly includeStopString?: boolean;
  /** Add the special tokens that the tokenizer puts around a text, as bos. Default true; false for rendered chats. */
  readonly addSpecialTokens?: boolean;
}

/** One continuation, as text. */
export interface TextGeneration extends Omit<Generation, 'prompt'> {
  readonly prompt: number;
  /** The continuation without special tokens, cut where a stop string came. */
  readonly text: string;
}

/** Text as it comes (what may still become a stop string or is half a character waits), or the end of a sequence. */
export type TextEvent =
  | ({ readonly kind: 'text'; readonly prompt: number; readonly sequence: number; readonly text: string } & TokenChoice)
  | { readonly kind: 'end'; readonly text: string; readonly generation: TextGeneration };

/** How a folder is opened to generate. */
export interface OpenOptions extends Partial<Omit<GeneratorSettings, 'model' | 'store'>> {
  /** Default: as many as the process may use. */
  readonly threads?: number;
  /** How weights, activations and the cache are stored. Default `auto`: as config.json says, f32 if it does not. */
  readonly dtype?: FloatType | 'auto';
}

/** Continues prompts of text by the model of a Hugging Face folder. What `open` loaded is freed when it is disposed of. */
export class TextGenerator implements Disposable {
  readonly #generator: Generator;
  readonly #tokenizer: Tokenizer;
  #owned: readonly Disposable[] = [];

  /**
   * Loads the Hugging Face folder `folder` on this machine's CPU. Unless told otherwise 16 sequences are decoded at once, of as
   * many tokens as the model has positions.
   */
  static async open(folder: string, options: OpenOptions = {}): Promise<TextGenerator> {
    await using checkpoint = await Checkpoint.open(folder);
    const tokenizer = await loadTokenizer(folder);
    const { model } = checkpoint;
    const { threads, dtype = 'auto', ...settings } = options;
    const device = createDevice(threads === undefined ? {} : { threads });
    const owned: Disposable[] = [{ [Symbol.dispose]: () => device.dispose() }];
    try {
      const store = new ParameterStore(device, layoutOf(model, dtype === 'auto' ? storedType(model) : dtype));
      owned.unshift(store);
      await checkpoint.loadInto(store);
      const generator = new Generator({ slots: 16, positions: model.maxPositions, ...settings, model, store });
      owned.unshift(generator);
      const opened = new TextGenerator(generator, tokenizer);
      opened.#owned = owned;
      return opened;
    } catch (error) {
      for (const part of owned) part[Symbol.dispose]();
      throw error;
    }
  }

  /** Both stay the caller's. */
  constructor(generator: Generator, tokenizer: Tokenizer) {
    this.#generator = generator;
    this.#tokenizer = tokenizer;
  }

  get tokenizer(): Tokenizer {
    return this.#tokenizer;
  }

  /** Frees what {@link open} took. */
  [Symbol.dispose](): void {
    for (const part of this.#owned) part[Symbol.dispose]();
    this.#owned = [];
  }

  /** Continues every prompt; results in the order of the prompts, those of one prompt together. */
  async generate(prompts: readonly string[], options: TextOptions): Promise<readonly TextGeneration[]> {
    const results: TextGeneration[] = [];
    for await (const event of this.stream(prompts, options)) if (event.kind === 'end') results.push(event.generation);
    return results.sort((a, b) => a.prompt - b.prompt || a.sequence - b.sequence);
  }

  /** Continues every prompt and tells the text as it comes. The `text` of an end is what had not been told. */
  async *stream(prompts: readonly string[], options: TextOptions): AsyncGenerator<TextEvent, void, undefined> {
    const { stopStrings = [], includeStopString = false, addSpecialTokens = true, ...rest } = options;
    if (!stopStrings.every((stop) => typeof stop === 'string' && stop !== '')) {
      throw new ConfigError('stopStrings', 'texts that are not empty', stopStrings);
    }
    const isBeam = (options.numBeams ?? 1) > 1;
    if (isBeam && stopStrings.length > 0) throw new ConfigError('stopStrings', 'none with beams', stopStrings);
    const eosTokenIds = options.eosTokenIds ?? this.#endIds();
    const texts = new Map<string, TextStream>();
    const textOf = (prompt: number, sequence: number): TextStream => {
      const key = `${prompt}/${sequence}`;
      const known = texts.get(key);
      if (known) return known;
      const decode = (ids: readonly number[]) => this.#tokenizer.decode(ids, { skipSpecialTokens: true });
      const made = new TextStream(decode, { stopStrings, includeStopString });
      texts.set(key, made);
      return made;
    };
    const isStopped: GenerateOptions['isStopped'] = async ({ prompt, sequence, ids }) => {
      const text = textOf(prompt, sequence);
      await text.push(ids.at(-1)!);
      return text.isStopped;
    };
    const ids = await this.#tokenizer.encodeBatch(prompts, { addSpecialTokens });
    const events: AsyncIterable<GenerationEvent> = this.#generator.stream(ids, {
      ...rest,
      eosTokenIds,
      ...(isBeam ? {} : { isStopped }),
    });
    for await (const event of events) {
      if (event.kind === 'token') {
        yield { ...event, kind: 'text', text: textOf(event.prompt, event.sequence).tell(false) };
        continue;
      }
      const { generation } = event;
      const text = textOf(generation.prompt, generation.sequence);
      if (isBeam) for (const id of generation.ids) if (!eosTokenIds.includes(id)) await text.push(id);
      await text.finish();
      texts.delete(`${generation.prompt}/${generation.sequence}`);
      yield { kind: 'end', text: text.tell(true), generation: { ...generation, text: text.text } };
    }
  }

  /** What ends a sequence: by the model's configuration and by the tokenizer's. */
  #endIds(): readonly number[] {
    const { eosId } = this.#tokenizer;
    return [...new Set([...this.#generator.model.eosTokenIds, ...(eosId === null ? [] : [eosId])])];
  }
}
