// Which blocks go to which part: runs of neighbours, the heaviest as light as can be, by what a block is said to weigh.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { balance, lossGraph, partition } from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';

/** Starts of all ways to cut `count` blocks into `parts` runs. */
function* cuts(count: number, parts: number, from = 0): Generator<readonly number[]> {
  if (parts === 1) yield [from];
  else
    for (let next = from + 1; next <= count - parts + 1; next++)
      for (const rest of cuts(count, parts - 1, next)) yield [from, ...rest];
}

const heaviest = (weights: readonly number[], starts: readonly number[]) =>
  Math.max(
    ...starts.map((start, part) => weights.slice(start, starts[part + 1]).reduce((sum, weight) => sum + weight, 0)),
  );

test('no other cut has a lighter heaviest part', () => {
  const weights = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 5 }), (list, wanted) => {
      const parts = Math.min(wanted, list.length);
      const found = balance(list, parts);
      assert.equal(found.length, parts);
      assert.ok(found.every((start, part) => (part === 0 ? start === 0 : start > found[part - 1]!)));
      const least = Math.min(...Array.from(cuts(list.length, parts), (starts) => heaviest(list, starts)));
      assert.equal(heaviest(list, found), least);
    }),
  );
});

test('embeddings weigh as parameters, not as arithmetic; patterns count the layers whose path matches', () => {
  const model = modelFromConfig({
    model_type: 'gpt2',
    n_layer: 6,
    n_head: 2,
    n_embd: 16,
    n_positions: 32,
    vocab_size: 2000,
    tie_word_embeddings: false,
  });
  const forward = lossGraph(model, 8);
  assert.deepEqual(partition(forward, 3, 'uniform'), [0, 2, 4]);
  assert.deepEqual(partition(forward, 3, 'parameters'), [0, 1, 5]);
  assert.deepEqual(partition(forward, 2, 'cost'), [0, 5]); // the head is an output of 2000 columns
  assert.deepEqual(partition(forward, 2, 'type:H\\.[34]\\.'), [0, 4]);
  assert.deepEqual(partition(forward, 6), [0, 1, 2, 3, 4, 5]);
  assert.throws(() => partition(forward, 7), /pipeline: expected at most 6 parts .*got 7/);
  assert.throws(() => partition(forward, 2, 'type:nowhere'), /partition_method: expected a pattern that matches/);
});
