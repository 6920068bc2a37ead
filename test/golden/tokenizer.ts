// The golden.json of a tokenizer's folder: every text, id list, chat and pair must come out equal.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ChatMessage, loadTokenizer, type Tokenizer } from '#src/data/index.js';

interface Golden {
  readonly encode?: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly tokens: readonly string[];
    readonly ids_with_special_tokens?: readonly number[];
    readonly decoded: string;
    readonly decoded_skip_special_tokens: string;
  }[];
  readonly decode?: readonly {
    readonly ids: readonly number[];
    readonly decoded: string;
    readonly decoded_skip_special_tokens: string;
  }[];
  readonly chats?: readonly {
    readonly messages: readonly ChatMessage[];
    readonly add_generation_prompt: boolean;
    readonly text: string;
    readonly ids: readonly number[];
    readonly assistant_mask?: readonly number[];
  }[];
  readonly pairs?: readonly {
    readonly first: string;
    readonly second: string;
    readonly ids: readonly number[];
    readonly token_type_ids: readonly number[];
    readonly cut: {
      readonly max_length: number;
      readonly ids: readonly number[];
      readonly token_type_ids: readonly number[];
      readonly attention_mask?: readonly number[];
    };
  }[];
}

export interface TokenizerResult {
  readonly group: string;
  readonly passed: number;
  readonly failures: readonly string[];
}

export async function checkTokenizer(dir: string): Promise<readonly TokenizerResult[]> {
  const golden = JSON.parse(readFileSync(join(dir, 'golden.json'), 'utf8')) as Golden;
  const tokenizer = await loadTokenizer(dir);
  return [
    await group('encode', golden.encode ?? [], async (entry) => {
      const { text, ids, tokens } = entry;
      return [
        [await tokenizer.encode(text), ids],
        [await tokenizer.tokens(text), tokens],
        [await tokenizer.encode(text, { addSpecialTokens: true }), entry.ids_with_special_tokens ?? ids],
        ...(await decoded(tokenizer, entry)),
      ];
    }),
    await group('decode', golden.decode ?? [], (entry) => decoded(tokenizer, entry)),
    await group('chats', golden.chats ?? [], async ({ messages, add_generation_prompt, text, ids, assistant_mask }) => {
      const addGenerationPrompt = add_generation_prompt;
      const rendered = tokenizer.applyChatTemplate(messages, { addGenerationPrompt });
      const encoded = await tokenizer.encodeChat(messages, { addGenerationPrompt });
      return [
        [rendered.text, text],
        [encoded.ids, ids],
        ...(assistant_mask ? ([[encoded.assistantMask, assistant_mask]] as const) : []),
      ];
    }),
    await group('pairs', golden.pairs ?? [], async ({ first, second, ids, token_type_ids, cut }) => {
      const whole = await tokenizer.encodePair(first, second);
      const short = await tokenizer.encodePair(first, second, { maxTokens: cut.max_length, padded: true });
      return [
        [whole.ids, ids],
        [whole.typeIds, token_type_ids],
        [short.ids, cut.ids],
        [short.typeIds, cut.token_type_ids],
        ...(cut.attention_mask ? ([[short.attentionMask, cut.attention_mask]] as const) : []),
      ];
    }),
  ];
}

type Comparison = readonly [found: unknown, expected: unknown];

async function decoded(
  tokenizer: Tokenizer,
  entry: { readonly ids: readonly number[]; readonly decoded: string; readonly decoded_skip_special_tokens: string },
): Promise<readonly Comparison[]> {
  return [
    [await tokenizer.decode(entry.ids), entry.decoded],
    [await tokenizer.decode(entry.ids, { skipSpecialTokens: true }), entry.decoded_skip_special_tokens],
  ];
}

async function group<T>(
  name: string,
  entries: readonly T[],
  compare: (entry: T) => Promise<readonly Comparison[]>,
): Promise<TokenizerResult> {
  const failures: string[] = [];
  for (const [index, entry] of entries.entries()) {
    const wrong = (await compare(entry)).find(
      ([found, expected]) => JSON.stringify(found) !== JSON.stringify(expected),
    );
    if (wrong) failures.push(`${index}: ${JSON.stringify(wrong[0])} for ${JSON.stringify(wrong[1])}`);
  }
  return { group: name, passed: entries.length - failures.length, failures };
}
