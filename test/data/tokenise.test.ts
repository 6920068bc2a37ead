// Own vocabularies and tokenised records: deterministic, reversible, trained on answers alone.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  generateInstructions,
  loadTokenizer,
  PLAIN_CHAT_TEMPLATE,
  type PlacedRecord,
  promptOf,
  TASK_KINDS,
  Tokenizer,
  tokenise,
  trainBpe,
} from '#src/data/index.js';

const CORPUS = Array.from({ length: 50 }, (_u, index) => `the cat sat on the mat, the ${index} cats' naïve hat\n`);

test('a trained vocabulary merges frequent pairs, is the same every time and survives its files', async () => {
  const tokenizer = trainBpe(CORPUS, { vocabSize: 300 });
  assert.deepEqual(trainBpe(CORPUS, { vocabSize: 300 }).files, tokenizer.files);
  assert.ok(tokenizer.vocabSize > 258 && tokenizer.vocabSize <= 300); // fewer than asked when nothing repeats any more
  assert.ok((await tokenizer.tokens('the cat')).length <= 3);
  const again = new Tokenizer(tokenizer.files);
  assert.deepEqual(await again.encode(CORPUS[7]!), await tokenizer.encode(CORPUS[7]!));
  assert.deepEqual([tokenizer.eosId, tokenizer.padId], [0, 1]);
});

test('any text comes back from its ids, with digits split and without', async () => {
  for (const splitDigits of [false, true]) {
    const tokenizer = trainBpe(CORPUS, { vocabSize: 280, splitDigits });
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (text) => {
        fc.pre(!text.includes('<|'));
        assert.equal(await tokenizer.decode(await tokenizer.encode(text)), text);
      }),
      { numRuns: 50 },
    );
  }
  const split = trainBpe(['1234 1234 3 3'], { vocabSize: 300, splitDigits: true });
  assert.deepEqual(await split.tokens('12 34'), ['1', '2', 'Ġ3', '4']);
});

const alpaca = (instruction: string, input: string, output: string): PlacedRecord => ({
  place: 'x.jsonl:4',
  record: { kind: 'alpaca', instruction, input, output },
});

test('only the answer and the end mark are trained, and the prompt encodes as it does alone', async () => {
  const tokenizer = trainBpe(CORPUS, { vocabSize: 300 });
  const prompt = promptOf('Sit.', 'cat', 'alpaca');
  const shard = await tokenise([alpaca('Sit.', 'cat', 'on the mat')], tokenizer, {
    template: 'alpaca',
    maxTokens: 999,
  });
  const answer = await tokenizer.encode('on the mat');
  assert.deepEqual([...shard.tokens], [...(await tokenizer.encode(prompt)), ...answer, tokenizer.eosId]);
  assert.equal(shard.isTrained.indexOf(1), shard.tokens.length - answer.length - 1);
  assert.ok(shard.isTrained.subarray(shard.isTrained.indexOf(1)).every((flag) => flag === 1));
});

test('a record with nothing to train on is refused by name, or counted', async () => {
  const tokenizer = trainBpe(CORPUS, { vocabSize: 300 });
  const options = { template: 'short', maxTokens: 64 } as const;
  await assert.rejects(
    tokenise([alpaca('Sit.', '', '')], tokenizer, options),
    /x\.jsonl:4: has no token.*the answer is empty/,
  );
  const long = alpaca('x '.repeat(100), '', 'y');
  await assert.rejects(tokenise([long], tokenizer, options), /the prompt alone fills the 64 tokens/);
  const shard = await tokenise([long, alpaca('Sit.', '', 'on')], tokenizer, { ...options, skipBad: true });
  assert.deepEqual([shard.skipped, shard.offsets.length - 1], [1, 1]);
});

const chatTokenizer = resolve('../shared/data/tokenizer-4k');
test('of a chat the replies are trained', {
  skip: existsSync(chatTokenizer) ? false : `${chatTokenizer} is not here`,
}, async () => {
  const tokenizer = await loadTokenizer(chatTokenizer);
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello you' },
  ];
  const record: PlacedRecord = { place: 'c:1', record: { kind: 'chat', messages } };
  const { tokens, isTrained } = await tokenise([record], tokenizer, { template: 'alpaca', maxTokens: 99 });
  assert.equal(await tokenizer.decode(tokens.filter((_id, at) => isTrained[at] === 1)), 'Hello you<|im_end|>');
});

test('the plain chat template trains each reply with its end mark, and nothing else', async () => {
  const trained = trainBpe(CORPUS, { vocabSize: 300 });
  const tokenizer = new Tokenizer({ ...trained.files, 'chat_template.jinja': PLAIN_CHAT_TEMPLATE });
  const chat = await tokenizer.encodeChat([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'One?' },
    { role: 'assistant', content: 'Yes.' },
    { role: 'user', content: 'Two?' },
    { role: 'assistant', content: 'No.' },
  ]);
  assert.equal(
    await tokenizer.decode(chat.ids),
    'Be brief.\n\n### Instruction:\nOne?\n\n### Response:\nYes.<|endoftext|>\n\n### Instruction:\nTwo?\n\n### Response:\nNo.<|endoftext|>',
  );
  const replies = chat.ids.filter((_id, at) => chat.assistantMask[at] === 1);
  assert.equal(await tokenizer.decode(replies), 'Yes.<|endoftext|>No.<|endoftext|>');
});

test('generated instructions: at least ten kinds, the same for a seed, no held-out question in training', () => {
  const options = { train: 3000, heldOut: 300, seed: 7 };
  const set = generateInstructions(options);
  assert.deepEqual(generateInstructions(options), set);
  assert.ok(TASK_KINDS.length >= 10);
  assert.deepEqual(new Set(set.heldOut.map(({ task }) => task)), new Set(TASK_KINDS));
  const asked = new Set(
    set.train.map(({ record }) => (record.kind === 'alpaca' ? `${record.instruction}|${record.input}` : '')),
  );
  for (const { record } of set.heldOut) assert.ok(!asked.has(`${record.instruction}|${record.input}`));
});

test('answers of generated instructions are right', () => {
  const { train } = generateInstructions({ train: 2000, heldOut: 0, seed: 1 });
  let checked = 0;
  for (const { record } of train) {
    if (record.kind !== 'alpaca') continue;
    const sum = /^(\d+) ([+-]) (\d+)$/.exec(record.input);
    if (sum) {
      const [a, b] = [Number(sum[1]), Number(sum[3])];
      assert.equal(Number(record.output), sum[2] === '+' ? a + b : a - b);
      checked += 1;
    }
    if (/revers/i.test(record.instruction)) {
      assert.equal(record.output, record.input.split(' ').reverse().join(' '));
      checked += 1;
    }
  }
  assert.ok(checked > 200);
});
