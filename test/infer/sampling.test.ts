// How tokens are chosen from logits.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseToken, kthLargest, type SamplingOptions, samplingSettings } from '#src/infer/index.js';
import { seededRandom } from '#src/models/index.js';

const LOGITS = Float32Array.of(1, 3, 2, 3, -1);

/** The id chosen behind `tokens`, of which the last `newCount` are new. */
function choose(options: SamplingOptions, random: () => number, tokens: readonly number[] = [], newCount = 0): number {
  const logits = LOGITS.slice();
  const found = { logits, likeliest: 1, top: 3, logSum: 0 };
  return chooseToken(found, { tokens, newCount }, samplingSettings(options), random);
}

/** Shares of 4,000 draws by id. */
function shares(options: SamplingOptions): number[] {
  const random = seededRandom('draws');
  const counts = LOGITS.reduce<number[]>((all) => [...all, 0], []);
  for (let i = 0; i < 4000; i++) counts[choose(options, random)]! += 1;
  return counts.map((count) => count / 4000);
}

test('nothing drawn takes the largest logit, the smallest id among equals', () => {
  const random = () => assert.fail('greedy choice draws nothing');
  assert.equal(choose({}, random), 1);
  assert.equal(choose({ temperature: 0, topK: 3 }, random), 1);
  assert.equal(choose({ doSample: false, topK: 3 }, random), 1);
});

test('draws follow the softmax at the temperature', () => {
  const weights = LOGITS.map((logit) => Math.exp(logit / 2));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (const [id, share] of shares({ temperature: 2 }).entries()) {
    assert.ok(Math.abs(share - weights[id]! / total) < 0.03, `${id}: ${share}`);
  }
});

test('top-k keeps the k most likely and those equal to the last of them', () => {
  const [first, second, third, fourth, fifth] = shares({ temperature: 1, topK: 3 });
  assert.equal(first! + fifth!, 0);
  assert.ok(second! > 0 && third! > 0 && fourth! > 0);
});

test('top-p keeps the fewest tokens that reach the sum', () => {
  const [first, second, third, fourth, fifth] = shares({ temperature: 1, topP: 0.6 });
  assert.equal(first! + third! + fifth!, 0);
  assert.ok(Math.abs(second! - fourth!) < 0.05);
});

test('min-p keeps what is likely enough beside the most likely', () => {
  const [first, second, third, fourth, fifth] = shares({ temperature: 1, minP: 0.2 });
  assert.equal(first! + fifth!, 0);
  assert.ok(second! > 0 && third! > 0 && fourth! > 0);
});

test('typical sampling keeps the tokens whose surprise is nearest to the entropy', () => {
  const [first, second, third, fourth, fifth] = shares({ typicalP: 0.5 });
  // Entropy 1.2 nats; the two likeliest surprise by 0.9 each and hold 0.82 of the probability.
  assert.equal(first! + third! + fifth!, 0);
  assert.ok(second! > 0 && fourth! > 0);
});

test('what must not come does not come, also where the choice is greedy', () => {
  const random = () => assert.fail('greedy choice draws nothing');
  assert.equal(choose({ repetitionPenalty: 1.2 }, random, [1]), 3);
  assert.equal(choose({ repetitionPenalty: 4 }, random, [1, 3]), 2);
  assert.equal(choose({ noRepeatNgramSize: 3 }, random, [4, 2, 1, 0, 4, 2]), 3);
  assert.equal(choose({ noRepeatNgramSize: 1 }, random, [1, 3]), 2);
  assert.equal(choose({ badWordsIds: [[1], [0, 3]] }, random, [4, 0]), 2);
  assert.equal(choose({ badWordsIds: [[1], [0, 3]] }, random, [0, 4]), 3, 'the beginning of the word is missing');
  assert.equal(choose({ minNewTokens: 2, eosTokenIds: [1, 3] }, random, [0, 0], 1), 2);
  assert.equal(choose({ minNewTokens: 2, eosTokenIds: [1, 3] }, random, [0, 0], 2), 1);
});

test('the k-th largest is found whatever the order', () => {
  const random = seededRandom('heap');
  for (const length of [1, 2, 7, 100]) {
    const values = Float32Array.from({ length }, () => Math.floor(random() * 50) - 20);
    const sorted = values.toSorted().reverse();
    for (let k = 1; k <= length; k++) assert.equal(kthLargest(values, k), sorted[k - 1]);
  }
});

test('options out of range or unknown are refused by name', () => {
  assert.throws(() => samplingSettings({ temperature: -1 }), /temperature: expected a number of at least 0, got -1/);
  assert.throws(() => samplingSettings({ topK: 1.5 }), /topK/);
  assert.throws(() => samplingSettings({ topP: 0 }), /topP/);
  assert.throws(() => samplingSettings({ badWordsIds: [[]] }), /badWordsIds: expected lists of ids, none empty/);
  assert.throws(() => samplingSettings({ top_k: 5 } as SamplingOptions), /top_k: expected one of .*topK/);
});
