// Hidden tokens: how many, which, what they become, and that only the seed, the pass and the sequence decide.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chosenTokens, layOutMasked, tokeniseTexts } from '#src/data/index.js';
import { letters } from './letters.js';

const T = 42;
const texts = Array.from({ length: 200 }, (_unused, index) =>
  Array.from({ length: 40 }, (_u, at) => 'abcdefghij'[(at + index) % 10]).join(' '),
);
const shard = await tokeniseTexts(
  texts.map((text) => ({ place: 'here', record: { text } })),
  letters,
  { maxTokens: T },
);
const masking = { share: 0.15, maskId: 4, vocabularySize: 15, seed: 1 };
const rows = texts.map((_text, index) => [index]);
const layOut = (epoch: number, seed = 1) =>
  layOutMasked(
    rows,
    rows.map(() => epoch),
    [shard],
    T,
    0,
    { ...masking, seed },
  );

test('15 % of the tokens that are not special are to be guessed: 80 % masked, 10 % replaced, 10 % as they were', () => {
  const { ids, labels, labelCount } = layOut(0);
  assert.equal(labelCount, 200 * 6);
  assert.equal(chosenTokens(shard, 0, 0.15), 6);
  const kinds = { masked: 0, replaced: 0, kept: 0 };
  labels.forEach((label, row) => {
    const original = shard.tokens[row]!;
    assert.equal(label === -100 ? ids[row] : label, original);
    if (label === -100) return;
    assert.ok(original >= 5, 'a special token is never chosen');
    kinds[ids[row] === 4 ? 'masked' : ids[row] === original ? 'kept' : 'replaced'] += 1;
  });
  const share = (count: number) => count / labelCount;
  assert.ok(Math.abs(share(kinds.masked) - 0.8) < 0.04, JSON.stringify(kinds));
  assert.ok(Math.abs(share(kinds.replaced) - 0.1) < 0.03, JSON.stringify(kinds));
});

test('the masks depend on the seed, the pass and the sequence, not on where it is laid out', () => {
  const whole = layOut(0);
  const one = layOutMasked([[7]], [0], [shard], T, 0, masking);
  assert.deepEqual(one.labels, whole.labels.subarray(7 * T, 8 * T));
  assert.deepEqual(one.ids, whole.ids.subarray(7 * T, 8 * T));
  assert.notDeepEqual(layOut(1).labels, whole.labels);
  assert.notDeepEqual(layOut(0, 2).labels, whole.labels);
});

test('a text without a token to hide is refused by name, or left out', async () => {
  const records = [{ place: 'file:3', record: { text: ' ' } }];
  await assert.rejects(tokeniseTexts(records, letters, { maxTokens: T }), /file:3: has no token to hide/);
  assert.equal((await tokeniseTexts(records, letters, { maxTokens: T, skipBad: true })).skipped, 1);
});
