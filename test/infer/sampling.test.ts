// How tokens are chosen from logits.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSampling, chooseToken, type Sampling } from '#src/infer/index.js';
import { seededRandom } from '#src/models/index.js';

const LOGITS = Float32Array.of(1, 3, 2, 3, -1);

/** Shares of 4,000 draws by id. */
function shares(sampling: Sampling): number[] {
  const random = seededRandom('draws');
  const counts = LOGITS.reduce<number[]>((all) => [...all, 0], []);
  for (let i = 0; i < 4000; i++) counts[chooseToken(LOGITS, sampling, random)]! += 1;
  return counts.map((count) => count / 4000);
}

test('temperature 0 takes the largest logit, the smallest id among equals', () => {
  const random = () => assert.fail('greedy choice draws nothing');
  assert.equal(chooseToken(LOGITS, {}, random), 1);
  assert.equal(chooseToken(LOGITS, { temperature: 1, topK: 1 }, random), 1);
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

test('repeats are held back, also where the choice is greedy', () => {
  const random = () => assert.fail('greedy choice draws nothing');
  assert.equal(chooseToken(LOGITS, { repetitionPenalty: 1.2 }, random, [1]), 3);
  assert.equal(chooseToken(LOGITS, { repetitionPenalty: 4 }, random, [1, 3]), 2);
  assert.equal(chooseToken(LOGITS, { noRepeatSize: 3 }, random, [4, 2, 1, 0, 4, 2]), 3);
  assert.equal(chooseToken(LOGITS, { noRepeatSize: 1 }, random, [1, 3]), 2);
});

test('settings out of range are refused by name', () => {
  assert.throws(() => checkSampling({ temperature: -1 }), /temperature: expected a number of at least 0, got -1/);
  assert.throws(() => checkSampling({ topK: 1.5 }), /topK/);
  assert.throws(() => checkSampling({ topP: 0 }), /topP/);
});
