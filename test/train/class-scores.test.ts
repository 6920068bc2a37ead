// Figures of classifiers against numbers worked out by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classScores } from '#src/train/class-scores.js';

test('one class: accuracy and F1 of each class', () => {
  const outputs = [
    [2, 1, 0],
    [0, 1, 0],
    [0, 1, 0],
    [3, 1, 0],
  ];
  const targets = [[0], [1], [0], [0]]; // the third is wrong
  const scores = classScores({ outputs, targets }, 'single_label_classification', ['ham', 'spam', 'other']);
  assert.deepEqual(scores, {
    records: 4,
    accuracy: 0.75,
    f1Macro: (0.8 + 2 / 3) / 2, // "other" does not occur
    f1Micro: 0.75,
    'f1.ham': 0.8,
    'f1.spam': 2 / 3,
    'f1.other': 0,
  });
});

test('several classes: a record is right when all of them are', () => {
  const outputs = [
    [1, 1],
    [1, -1],
    [-1, -1],
  ];
  const targets = [
    [1, 1],
    [0, 1],
    [0, 0],
  ];
  const scores = classScores({ outputs, targets }, 'multi_label_classification', ['a', 'b']);
  assert.equal(scores.accuracy, 2 / 3);
  assert.equal(scores.f1Micro, 4 / 6);
});

test('numbers: squared and absolute errors', () => {
  const scores = classScores({ outputs: [[1], [3]], targets: [[2], [0]] }, 'regression', ['LABEL_0']);
  assert.deepEqual(scores, { records: 2, mse: 5, mae: 2 });
});
