// Finds a tokenizer's files in a folder and turns older layouts (vocab.json + merges.txt, vocab.txt) into a tokenizer.json.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, DataError } from '../common/index.js';

/** The text files of a tokenizer by name: small enough to travel to workers as a value. */
export type TokenizerFiles = Readonly<Record<string, string>>;

const NAMES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  'chat_template.jinja',
  'chat_template_training.jinja',
] as const;

/** Reads the tokenizer files of `dir`. Throws {@link ConfigError} if the folder is missing or holds no vocabulary. */
export async function readTokenizerFiles(dir: string): Promise<TokenizerFiles> {
  let present: readonly string[];
  try {
    present = await readdir(dir);
  } catch (cause) {
    throw new ConfigError('tokenizer', 'a folder with tokenizer.json', dir, 'The folder cannot be read', { cause });
  }
  const files: Record<string, string> = {};
  for (const name of NAMES) if (present.includes(name)) files[name] = await readFile(join(dir, name), 'utf8');
  if (!files['tokenizer.json'] && !files['vocab.txt'] && !(files['vocab.json'] && files['merges.txt'])) {
    throw new ConfigError(
      'tokenizer',
      'a folder with tokenizer.json, or vocab.json and merges.txt, or vocab.txt',
      dir,
      `It holds ${present.slice(0, 8).join(', ') || 'nothing'}`,
    );
  }
  return files;
}

/** The text of tokenizer.json: the file itself, which decides where it exists, or the same made from the older layouts. */
export function tokenizerJson(files: TokenizerFiles): string {
  const whole = files['tokenizer.json'];
  if (whole !== undefined) return whole;
  const config = parseJson(files['tokenizer_config.json'] ?? '{}', 'tokenizer_config.json');
  const wordPieces = files['vocab.txt'];
  if (wordPieces !== undefined) return JSON.stringify(fromWordPieces(wordPieces, config));
  return JSON.stringify(fromVocabAndMerges(files['vocab.json'] ?? '', files['merges.txt'] ?? '', config));
}

/** Parses `text` as a JSON object. Throws {@link DataError} naming `place`. */
export function parseJson(text: string, place: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new DataError({ place, detail: `is not JSON (${(cause as Error).message})` }, { cause });
  }
  throw new DataError({ place, detail: 'is not a JSON object' });
}

/** An entry of `added_tokens` in a tokenizer.json. */
export const specialToken = (content: string, id: number) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/** GPT-2's own layout: byte-level BPE whose only special token is `<|endoftext|>` (or what the configuration names). */
function fromVocabAndMerges(vocabText: string, mergesText: string, config: Readonly<Record<string, unknown>>): object {
  const vocab = parseJson(vocabText, 'vocab.json') as Readonly<Record<string, number>>;
  const merges = mergesText
    .split('\n')
    .filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')))
    .map((line) => line.replace(/\r$/, '').split(' '));
  const bad = merges.findIndex((merge) => merge.length !== 2);
  if (bad >= 0)
    throw new DataError({ place: 'merges.txt', detail: `merge ${bad + 1} is not two tokens with a space between` });
  const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token']
    .map((key) => tokenContent(config[key]))
    .filter((name): name is string => name !== null && name in vocab);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: config.add_prefix_space === true, trim_offsets: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...new Set(names.length > 0 ? names : ['<|endoftext|>'])]
      .filter((name) => name in vocab)
      .map((name) => specialToken(name, vocab[name] ?? 0)),
    normalizer: null,
    pre_tokenizer: { ...byteLevel, use_regex: true },
    post_processor: { ...byteLevel, trim_offsets: false, use_regex: true },
    decoder: { ...byteLevel, add_prefix_space: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

/** BERT's own layout: one word piece per line, its number is its id. */
function fromWordPieces(vocabText: string, config: Readonly<Record<string, unknown>>): object {
  const lines = vocabText.replace(/\n$/, '').split('\n');
  const vocab: Record<string, number> = {};
  lines.forEach((line, id) => {
    vocab[line.replace(/\r$/, '')] = id;
  });
  const name = (key: string, fallback: string): string => tokenContent(config[key]) ?? fallback;
  const cls = name('cls_token', '[CLS]');
  const sep = name('sep_token', '[SEP]');
  const unk = name('unk_token', '[UNK]');
  const specials = [name('pad_token', '[PAD]'), unk, cls, sep, name('mask_token', '[MASK]')];
  const missing = specials.find((token) => !(token in vocab));
  if (missing !== undefined) throw new DataError({ place: 'vocab.txt', detail: `lacks the special token ${missing}` });
  const part = (id: string, typeId: number) => ({ SpecialToken: { id, type_id: typeId } });
  const lower = config.do_lower_case !== false;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials.map((token) => specialToken(token, vocab[token] ?? 0)).sort((a, b) => a.id - b.id),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars !== false,
      strip_accents: config.strip_accents ?? null,
      lowercase: lower,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [part(cls, 0), { Sequence: { id: 'A', type_id: 0 } }, part(sep, 0)],
      pair: [
        part(cls, 0),
        { Sequence: { id: 'A', type_id: 0 } },
        part(sep, 0),
        { Sequence: { id: 'B', type_id: 1 } },
        part(sep, 1),
      ],
      special_tokens: Object.fromEntries(
        [cls, sep].map((token) => [token, { id: token, ids: [vocab[token]], tokens: [token] }]),
      ),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: unk,
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab,
    },
  };
}

/** A token as configurations spell it: a string, or an object with `content`. */
export function tokenContent(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null && 'content' in value && typeof value.content === 'string')
    return value.content;
  return null;
}
