// Trains a byte-level BPE vocabulary (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2) and gives it as a Hugging
// Face tokenizer. Deterministic: ties go to the pair with the smaller ids.
import { ConfigError } from '../common/index.js';
import { Tokenizer } from './tokenizer.js';
import { specialToken } from './tokenizer-files.js';

/** How a vocabulary is made of texts. */
export interface BpeOptions {
  /** Entries of the vocabulary, the special tokens and the 256 bytes included. */
  readonly vocabSize: number;
  /** A pair seen less often is not merged. Default 2. */
  readonly minFrequency?: number;
  /** Every digit (with a space before it) a token of its own, so that numbers look alike wherever they stand. Default false, as in GPT-2. */
  readonly splitDigits?: boolean;
}

const END_OF_TEXT = '<|endoftext|>';
const PAD = '<|pad|>';

// GPT-2's split. White space is Unicode's, which JavaScript's \s is not.
const SPACE = '\\p{White_Space}';
const splitPattern = (number: string): string =>
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|${number}| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!${`[^${SPACE}]`})|${SPACE}+`;

/** Trains on `texts` and returns the tokenizer, with `<|endoftext|>` as 0 and `<|pad|>` as 1. */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): Tokenizer {
  const base = 2 + 256;
  if (!Number.isInteger(options.vocabSize) || options.vocabSize < base)
    throw new ConfigError(
      'vocabSize',
      `an integer of at least ${base} (2 special tokens and 256 bytes)`,
      options.vocabSize,
    );
  const splitDigits = options.splitDigits ?? false;
  const words = countWords(texts, new RegExp(splitPattern(splitDigits ? ' ?\\p{N}' : ' ?\\p{N}+'), 'gu'));
  const spelling = byteSpelling();
  const vocab: Record<string, number> = { [END_OF_TEXT]: 0, [PAD]: 1 };
  const tokens = [END_OF_TEXT, PAD];
  const add = (token: string): number => {
    vocab[token] = tokens.length;
    return tokens.push(token) - 1;
  };
  const idOfByte = [...spelling].sort().map((char) => [spelling.indexOf(char), add(char)] as const);
  const byteIds = new Uint16Array(256);
  for (const [byte, id] of idOfByte) byteIds[byte] = id;

  const merges: [string, string][] = [];
  const trainer = new PairCounts(words, byteIds);
  while (tokens.length < options.vocabSize) {
    const best = trainer.mostFrequent();
    if (best === null || best.count < (options.minFrequency ?? 2)) break;
    const left = tokens[best.left]!;
    const right = tokens[best.right]!;
    merges.push([left, right]);
    // Two different merges may spell the same token; it keeps its first id.
    trainer.merge(best.left, best.right, vocab[left + right] ?? add(left + right));
  }
  return new Tokenizer(files(vocab, merges, splitDigits));
}

/** How often each piece of the split occurs, in order of first appearance. */
function countWords(texts: Iterable<string>, pattern: RegExp): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) for (const [word] of text.matchAll(pattern)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** GPT-2's printable character for each byte. */
function byteSpelling(): string[] {
  let extra = 0;
  return Array.from({ length: 256 }, (_unused, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(isPrintable ? byte : 256 + extra++);
  });
}

interface Pair {
  readonly left: number;
  readonly right: number;
  readonly count: number;
}

const keyOf = (left: number, right: number): number => left * 2 ** 26 + right;

/** Words as token ids with the count of every adjacent pair, kept exact under merges. */
class PairCounts {
  readonly #words: { ids: number[]; readonly count: number }[];
  readonly #counts = new Map<number, number>();
  readonly #wordsOf = new Map<number, Set<number>>();
  readonly #heap = new PairHeap();

  constructor(words: ReadonlyMap<string, number>, byteIds: Uint16Array) {
    this.#words = [...words].map(([word, count]) => ({
      ids: Array.from(Buffer.from(word, 'utf8'), (byte) => byteIds[byte]!),
      count,
    }));
    this.#words.forEach((_word, index) => {
      this.#countWord(index, 1);
    });
    for (const key of this.#counts.keys()) this.#push(key);
  }

  /** The pair with the highest count; of equals the one with the smallest ids. Entries of the heap may be out of date. */
  mostFrequent(): Pair | null {
    for (;;) {
      const top = this.#heap.pop();
      if (top === null) return null;
      if (top.count === this.#counts.get(keyOf(top.left, top.right))) return top;
    }
  }

  merge(left: number, right: number, merged: number): void {
    const changed = new Set<number>();
    for (const index of [...(this.#wordsOf.get(keyOf(left, right)) ?? [])]) {
      const word = this.#words[index]!;
      for (const key of this.#countWord(index, -1)) changed.add(key);
      const ids: number[] = [];
      for (let at = 0; at < word.ids.length; at += 1) {
        const isPair = word.ids[at] === left && word.ids[at + 1] === right;
        ids.push(isPair ? merged : word.ids[at]!);
        if (isPair) at += 1;
      }
      word.ids = ids;
      for (const key of this.#countWord(index, 1)) changed.add(key);
    }
    for (const key of changed) this.#push(key);
  }

  /** Adds (or takes away) one word's pairs and returns their keys. */
  #countWord(index: number, sign: 1 | -1): number[] {
    const { ids, count } = this.#words[index]!;
    const keys: number[] = [];
    for (let at = 0; at + 1 < ids.length; at += 1) {
      const key = keyOf(ids[at]!, ids[at + 1]!);
      keys.push(key);
      const total = (this.#counts.get(key) ?? 0) + sign * count;
      if (total === 0) this.#counts.delete(key);
      else this.#counts.set(key, total);
      let holders = this.#wordsOf.get(key);
      if (!holders) {
        holders = new Set();
        this.#wordsOf.set(key, holders);
      }
      if (sign > 0) holders.add(index);
      else holders.delete(index);
    }
    return keys;
  }

  #push(key: number): void {
    const count = this.#counts.get(key);
    if (count !== undefined) this.#heap.push({ left: Math.floor(key / 2 ** 26), right: key % 2 ** 26, count });
  }
}

const isBefore = (a: Pair, b: Pair): boolean =>
  a.count !== b.count ? a.count > b.count : a.left !== b.left ? a.left < b.left : a.right < b.right;

/** A binary heap with the most frequent pair on top. */
class PairHeap {
  readonly #items: Pair[] = [];

  push(pair: Pair): void {
    let at = this.#items.push(pair) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(pair, this.#items[parent]!)) break;
      this.#items[at] = this.#items[parent]!;
      at = parent;
    }
    this.#items[at] = pair;
  }

  pop(): Pair | null {
    const top = this.#items[0];
    const last = this.#items.pop();
    if (top === undefined || last === undefined) return null;
    if (this.#items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#items.length) break;
      if (child + 1 < this.#items.length && isBefore(this.#items[child + 1]!, this.#items[child]!)) child += 1;
      if (!isBefore(this.#items[child]!, last)) break;
      this.#items[at] = this.#items[child]!;
      at = child;
    }
    this.#items[at] = last;
    return top;
  }
}

function files(vocab: Readonly<Record<string, number>>, merges: readonly [string, string][], splitDigits: boolean) {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: !splitDigits };
  const split = { type: 'Split', pattern: { Regex: splitPattern(' ?\\p{N}') }, behavior: 'Isolated', invert: false };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [specialToken(END_OF_TEXT, 0), specialToken(PAD, 1)],
    normalizer: null,
    pre_tokenizer: splitDigits ? { type: 'Sequence', pretokenizers: [split, byteLevel] } : byteLevel,
    post_processor: { ...byteLevel, trim_offsets: false },
    decoder: { ...byteLevel, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
  const specials = { bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, unk_token: END_OF_TEXT, pad_token: PAD };
  const config = { ...specials, clean_up_tokenization_spaces: false, tokenizer_class: 'PreTrainedTokenizerFast' };
  return {
    'tokenizer.json': `${JSON.stringify(tokenizer)}\n`,
    'tokenizer_config.json': `${JSON.stringify(config, null, 2)}\n`,
    'special_tokens_map.json': `${JSON.stringify(specials, null, 2)}\n`,
  };
}
