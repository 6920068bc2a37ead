// The one door to tokenizers: text ↔ token ids, special tokens, chat templates. Never knows where its files came from.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { DataError } from '../common/index.js';
import { type ChatMessage, marksGeneration, type RenderedChat, renderChat } from './chat-template.js';
import { parseJson, readTokenizerFiles, type TokenizerFiles, tokenContent, tokenizerJson } from './tokenizer-files.js';

const SPECIAL_KEYS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'pad_token',
  'cls_token',
  'sep_token',
  'mask_token',
] as const;

/** The tokens of a text, or of two. */
export interface EncodedPair {
  readonly ids: readonly number[];
  /** 0 for the first text, 1 for the second, as long as `ids`. */
  readonly typeIds: readonly number[];
  /** 1 for tokens, 0 for padding. */
  readonly attentionMask: readonly number[];
}

/** Ids of a rendered chat, and 1 for every token that the assistant wrote. */
export interface EncodedChat {
  readonly ids: readonly number[];
  readonly assistantMask: readonly number[];
}

/** Opens the tokenizer in `dir`: tokenizer.json, or the older vocab.json + merges.txt or vocab.txt. */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  return new Tokenizer(await readTokenizerFiles(dir));
}

/** Text to token ids and back, with the special tokens and the chat template of its model. Throws DataError for files that are none. */
export class Tokenizer {
  /** The files that this tokenizer was made from; enough to make it again in another process. */
  readonly files: TokenizerFiles;
  /** Special tokens by the key of tokenizer_config.json (`eos_token` …). */
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly #native: NativeTokenizer;
  readonly #chatTemplate: string | null;

  constructor(files: TokenizerFiles) {
    this.files = files;
    try {
      this.#native = NativeTokenizer.fromString(tokenizerJson(files));
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      throw new DataError({ place: 'tokenizer.json', detail: (cause as Error).message }, { cause });
    }
    const config = parseJson(files['tokenizer_config.json'] ?? '{}', 'tokenizer_config.json');
    const map = parseJson(files['special_tokens_map.json'] ?? '{}', 'special_tokens_map.json');
    const tokens = SPECIAL_KEYS.flatMap((key) => {
      const content = tokenContent(config[key]) ?? tokenContent(map[key]);
      return content === null ? [] : [[key, content] as const];
    });
    this.specialTokens = Object.fromEntries(tokens);
    this.#chatTemplate =
      files['chat_template.jinja'] ?? (typeof config.chat_template === 'string' ? config.chat_template : null);
  }

  /** Number of ids, added tokens included. */
  get vocabSize(): number {
    return this.#native.getVocabSize(true);
  }
  get eosId(): number | null {
    return this.#specialId('eos_token');
  }
  get bosId(): number | null {
    return this.#specialId('bos_token');
  }
  get padId(): number | null {
    return this.#specialId('pad_token');
  }

  /** Id of a token by its spelling in the vocabulary. */
  tokenToId(token: string): number | null {
    return this.#native.tokenToId(token);
  }
  idToToken(id: number): string | null {
    return this.#native.idToToken(id);
  }

  /** Ids of `text`. Special tokens written in the text are recognised; those of the post-processor only if asked for. */
  async encode(text: string, options: { readonly addSpecialTokens?: boolean } = {}): Promise<number[]> {
    const encoding = await this.#native.encode(text, null, { addSpecialTokens: options.addSpecialTokens ?? false });
    return encoding.getIds();
  }

  /** The token strings of `text` as the vocabulary spells them. */
  async tokens(text: string): Promise<string[]> {
    return (await this.#native.encode(text, null, { addSpecialTokens: false })).getTokens();
  }

  /** Many texts in one call, which costs one crossing. */
  async encodeBatch(
    texts: readonly string[],
    options: { readonly addSpecialTokens?: boolean } = {},
  ): Promise<number[][]> {
    if (texts.length === 0) return [];
    const all = await this.#native.encodeBatch([...texts], { addSpecialTokens: options.addSpecialTokens ?? false });
    return all.map((encoding) => encoding.getIds());
  }

  /** A sentence pair (or one sentence) with special tokens; `maxTokens` cuts the longer side first and `padded` fills up to it. */
  async encodePair(
    first: string,
    second: string | null,
    options: { readonly maxTokens?: number; readonly padded?: boolean } = {},
  ): Promise<EncodedPair> {
    // Cut here and joined after: truncation as a setting of the native tokenizer would be seen by calls beside this one.
    const one = await this.#native.encode(first, null, { addSpecialTokens: false });
    const two = second === null ? null : await this.#native.encode(second, null, { addSpecialTokens: false });
    if (options.maxTokens !== undefined) {
      const specials = (await this.#native.encode('', two && '', { addSpecialTokens: true })).getLength();
      const [keepOne, keepTwo] = cutLongestFirst(one.getLength(), two?.getLength() ?? 0, options.maxTokens - specials);
      one.truncate(keepOne, 0, 'right'); // the binding's default is the left side
      two?.truncate(keepTwo, 0, 'right');
    }
    const encoding = this.#native.postProcess(one, two, true);
    const ids = encoding.getIds();
    const typeIds = encoding.getTypeIds();
    const attentionMask = encoding.getAttentionMask();
    for (let at = ids.length; options.padded && at < (options.maxTokens ?? 0); at += 1) {
      ids.push(this.padId ?? 0);
      typeIds.push(0);
      attentionMask.push(0);
    }
    return { ids, typeIds, attentionMask };
  }

  /** Texts or pairs as {@link encodePair} gives them, with special tokens, cut to `maxTokens`. */
  async encodeTexts(
    texts: readonly (readonly [text: string, pair: string | null])[],
    maxTokens: number,
  ): Promise<{ readonly ids: readonly number[]; readonly types: readonly number[]; readonly isCut: boolean }[]> {
    const singles = texts.flatMap(([text, pair]) => (pair === null ? [text] : []));
    const batch = singles.length === 0 ? [] : await this.#native.encodeBatch(singles, { addSpecialTokens: true });
    const encoded = batch.values();
    const whole = await Promise.all(
      // The binding takes pairs one at a time.
      texts.map(([text, pair]) =>
        pair === null ? encoded.next().value! : this.#native.encode(text, pair, { addSpecialTokens: true }),
      ),
    );
    return Promise.all(
      whole.map(async (encoding, index) => {
        const [text, pair] = texts[index]!;
        if (encoding.getLength() <= maxTokens)
          return { ids: encoding.getIds(), types: encoding.getTypeIds(), isCut: false };
        const { ids, typeIds } = await this.encodePair(text, pair, { maxTokens });
        return { ids, types: typeIds, isCut: true };
      }),
    );
  }

  /** Text of `ids`; bytes that are not UTF-8 become U+FFFD. */
  async decode(ids: ArrayLike<number>, options: { readonly skipSpecialTokens?: boolean } = {}): Promise<string> {
    return this.#native.decode(Array.from(ids), options.skipSpecialTokens ?? false);
  }

  /** Renders `messages` with the tokenizer's chat template, or with `template`. */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: { readonly addGenerationPrompt?: boolean; readonly template?: string } = {},
  ): RenderedChat {
    const template = options.template ?? this.#chatTemplate;
    if (template === null)
      throw new DataError({
        place: 'tokenizer_config.json',
        detail:
          'has no chat_template. Use data with instruction/output or prompt/completion, or add chat_template.jinja',
      });
    return renderChat(template, messages, {
      addGenerationPrompt: options.addGenerationPrompt ?? false,
      tokens: this.specialTokens,
    });
  }

  /**
   * Ids of a whole chat and which tokens are the assistant's: by `{% generation %}` where a template marks it
   * (chat_template_training.jinja, else the chat template itself), else by what each reply adds to the chat before it.
   */
  async encodeChat(
    messages: readonly ChatMessage[],
    options: { readonly addGenerationPrompt?: boolean } = {},
  ): Promise<EncodedChat> {
    const training = this.files['chat_template_training.jinja'];
    const template = training !== undefined && marksGeneration(training) ? training : this.#chatTemplate;
    const rendered = this.applyChatTemplate(messages, { ...options, ...(template === null ? {} : { template }) });
    const generated =
      template !== null && marksGeneration(template)
        ? rendered.generated
        : this.#repliesByPrefix(messages, rendered.text);
    return this.#maskCharacters(rendered.text, generated);
  }

  /** Writes the files into `dir`, so that it opens as a Hugging Face tokenizer. */
  async save(dir: string): Promise<void> {
    await mkdir(dir, { recursive: true });
    const files: Record<string, string> = { ...this.files };
    files['tokenizer.json'] ??= tokenizerJson(this.files);
    for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  }

  #specialId(key: (typeof SPECIAL_KEYS)[number]): number | null {
    const token = this.specialTokens[key];
    return token === undefined ? null : this.tokenToId(token);
  }

  /** Reply i is what the chat up to i has beyond the chat before i with the generation prompt. */
  #repliesByPrefix(messages: readonly ChatMessage[], text: string): [number, number][] {
    const replies: [number, number][] = [];
    messages.forEach((message, index) => {
      if (message.role !== 'assistant' || index === 0) return;
      const before = this.applyChatTemplate(messages.slice(0, index), { addGenerationPrompt: true }).text;
      const after = this.applyChatTemplate(messages.slice(0, index + 1)).text;
      if (!after.startsWith(before) || !text.startsWith(after))
        throw new DataError({
          place: 'chat template',
          detail: `does not keep what came before message ${index + 1}. Mark replies with {% generation %} in chat_template_training.jinja`,
        });
      replies.push([before.length, after.length]);
    });
    return replies;
  }

  async #maskCharacters(text: string, ranges: readonly (readonly [number, number])[]): Promise<EncodedChat> {
    const encoding = await this.#native.encode(text, null, { addSpecialTokens: false });
    // The tokenizer counts code points, JavaScript UTF-16 units.
    const isReply = new Uint8Array(text.length);
    for (const [start, end] of ranges) isReply.fill(1, start, end);
    const unitOfPoint: number[] = [];
    for (let unit = 0; unit < text.length; unit += (text.codePointAt(unit) ?? 0) > 0xffff ? 2 : 1)
      unitOfPoint.push(unit);
    const assistantMask = encoding.getOffsets().map(([start]) => isReply[unitOfPoint[start ?? 0] ?? 0] ?? 0);
    return { ids: encoding.getIds(), assistantMask };
  }
}

/** Lengths that two sequences keep within `budget` when tokens leave the longer one first, as Transformers counts. */
function cutLongestFirst(one: number, two: number, budget: number): readonly [number, number] {
  if (one + two <= budget) return [one, two];
  const short = Math.min(one, two);
  const half = Math.floor(budget / 2);
  const [shortKept, longKept] = short > half ? [half, budget - half] : [short, budget - short];
  return one <= two ? [shortKept, longKept] : [longKept, shortKept];
}
