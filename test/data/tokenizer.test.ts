// The tokenizers of the shared data give their recorded ids, texts, chats and pairs; older layouts give the same.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { loadTokenizer, readTokenizerFiles, Tokenizer } from '#src/data/index.js';

interface Golden {
  readonly vocab_size: number;
  readonly encode: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly tokens: string[];
    readonly ids_with_special_tokens?: number[];
    readonly decoded: string;
    readonly decoded_skip_special_tokens: string;
  }[];
  readonly decode: readonly { ids: number[]; decoded: string; decoded_skip_special_tokens: string }[];
  readonly chats?: readonly {
    readonly messages: { role: string; content: string }[];
    readonly add_generation_prompt: boolean;
    readonly text: string;
    readonly ids: number[];
    readonly assistant_mask?: number[];
  }[];
  readonly pairs?: readonly {
    readonly first: string;
    readonly second: string;
    readonly ids: number[];
    readonly token_type_ids: number[];
    readonly cut: { max_length: number; ids: number[]; token_type_ids: number[]; attention_mask: number[] };
  }[];
}

const shared = resolve('../shared/data');

async function check(tokenizer: Tokenizer, golden: Golden): Promise<void> {
  assert.equal(tokenizer.vocabSize, golden.vocab_size);
  for (const item of golden.encode) {
    assert.deepEqual(await tokenizer.encode(item.text), item.ids);
    assert.deepEqual(await tokenizer.tokens(item.text), item.tokens);
    const withSpecials = await tokenizer.encode(item.text, { addSpecialTokens: true });
    assert.deepEqual(withSpecials, item.ids_with_special_tokens ?? item.ids);
  }
  for (const item of [...golden.encode, ...golden.decode]) {
    assert.equal(await tokenizer.decode(item.ids), item.decoded);
    assert.equal(await tokenizer.decode(item.ids, { skipSpecialTokens: true }), item.decoded_skip_special_tokens);
  }
  for (const chat of golden.chats ?? []) {
    const rendered = tokenizer.applyChatTemplate(chat.messages, { addGenerationPrompt: chat.add_generation_prompt });
    assert.equal(rendered.text, chat.text);
    assert.deepEqual(await tokenizer.encode(rendered.text), chat.ids);
    if (chat.assistant_mask) {
      const encoded = await tokenizer.encodeChat(chat.messages, { addGenerationPrompt: chat.add_generation_prompt });
      assert.deepEqual(encoded, { ids: chat.ids, assistantMask: chat.assistant_mask });
    }
  }
  for (const pair of golden.pairs ?? []) {
    const whole = await tokenizer.encodePair(pair.first, pair.second);
    assert.deepEqual([whole.ids, whole.typeIds], [pair.ids, pair.token_type_ids]);
    const cut = await tokenizer.encodePair(pair.first, pair.second, { maxTokens: pair.cut.max_length, padded: true });
    assert.deepEqual(cut, {
      ids: pair.cut.ids,
      typeIds: pair.cut.token_type_ids,
      attentionMask: pair.cut.attention_mask,
    });
  }
}

for (const name of ['tokenizer-4k', 'tokenizer-16k', 'tokenizer-llama-4k', 'tokenizer-bert-4k', 'tokenizer-gpt2']) {
  const dir = join(shared, name);
  const skip = existsSync(dir) ? false : `${dir} is not on this machine`;
  test(`${name} gives every recorded result`, { skip }, async () => {
    const golden = JSON.parse(await readFile(join(dir, 'golden.json'), 'utf8')) as Golden;
    await check(await loadTokenizer(dir), golden);
  });
  if (name === 'tokenizer-llama-4k' || name === 'tokenizer-gpt2') continue; // no second layout of the same tokenizer
  test(`${name} gives the same from its older files alone`, { skip }, async () => {
    const { 'tokenizer.json': _whole, ...older } = await readTokenizerFiles(dir);
    const golden = JSON.parse(await readFile(join(dir, 'golden.json'), 'utf8')) as Golden;
    const texts = golden.encode.filter((item) => !item.text.includes('<|im_')); // vocab.json alone does not say that these are special
    await check(new Tokenizer(older), { ...golden, encode: texts, chats: [] });
  });
}

test('a folder without a vocabulary is refused, naming what it holds', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'raylite-tokenizer-'));
  try {
    await writeFile(join(dir, 'notes.md'), '');
    await assert.rejects(loadTokenizer(dir), /tokenizer: expected a folder with tokenizer.json.*notes\.md/);
    await assert.rejects(loadTokenizer(join(dir, 'none')), { code: 'RAYLITE_CONFIG' });
  } finally {
    await rm(dir, { recursive: true });
  }
});
