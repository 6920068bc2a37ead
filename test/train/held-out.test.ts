// Which measurement is the best, and when a run has waited for a better one long enough.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bestOf, isStale } from '#src/train/held-out.js';

const measured = (...losses: readonly number[]) => losses.map((loss, index) => ({ step: 10 * (index + 1), loss }));

test('the best is the lowest, the first of equals, and a number', () => {
  assert.equal(bestOf([]), null);
  assert.equal(bestOf(measured(Number.NaN, Number.POSITIVE_INFINITY)), null);
  assert.equal(bestOf(measured(3, 2, Number.NaN, 2, 4))?.step, 20);
});

test('patience counts what was no better in a row, not a number included', () => {
  assert.equal(isStale(measured(3, 4, 5), null), false);
  assert.equal(isStale([], 1), false);
  assert.equal(isStale(measured(3, 4), 2), false);
  assert.equal(isStale(measured(3, 4, 3), 2), true);
  assert.equal(isStale(measured(3, 4, 2.9), 2), false);
  assert.equal(isStale(measured(3, Number.NaN, Number.NaN), 2), true);
  assert.equal(isStale(measured(Number.NaN, Number.NaN), 2), true);
});
