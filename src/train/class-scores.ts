// Figures of a classifier from its outputs and what was expected. Pure.
import type { ProblemType } from '../data/index.js';
import type { Scores } from './recipe.js';

/** Rows of `width` outputs (logits, or numbers) and of targets (the class; 0 or 1 for each class; or numbers). */
export interface Predictions {
  readonly outputs: readonly (readonly number[])[];
  readonly targets: readonly (readonly number[])[];
}

/**
 * `accuracy` (a record with several classes is right when all are), `f1Macro` over the classes that occur, `f1Micro`, and
 * `f1.<name>` of each; or `mse` and `mae` of a regression. `records` is how many there were.
 */
export function classScores({ outputs, targets }: Predictions, problem: ProblemType, names: readonly string[]): Scores {
  if (problem === 'regression') return errors(outputs, targets);
  const isSingle = problem === 'single_label_classification';
  const predicted = outputs.map((row) => (isSingle ? [largest(row)] : above(row, 0))); // logit 0 is probability 1/2
  const expected = targets.map((row) => (isSingle ? row : above(row, 0.5)));
  const counts = names.map(() => ({ hits: 0, predicted: 0, expected: 0 }));
  let right = 0;
  predicted.forEach((classes, record) => {
    const truth = expected[record]!;
    for (const number of classes) {
      counts[number]!.predicted += 1;
      if (truth.includes(number)) counts[number]!.hits += 1;
    }
    for (const number of truth) counts[number]!.expected += 1;
    if (classes.join() === truth.join()) right += 1;
  });
  const f1 = (count: { hits: number; predicted: number; expected: number }) =>
    count.predicted + count.expected === 0 ? 0 : (2 * count.hits) / (count.predicted + count.expected);
  const present = counts.filter((count) => count.predicted + count.expected > 0);
  const sum = (key: 'hits' | 'predicted' | 'expected') => counts.reduce((total, count) => total + count[key], 0);
  return {
    records: outputs.length,
    accuracy: right / Math.max(1, outputs.length),
    f1Macro: present.reduce((total, count) => total + f1(count), 0) / Math.max(1, present.length),
    f1Micro: f1({ hits: sum('hits'), predicted: sum('predicted'), expected: sum('expected') }),
    ...Object.fromEntries(names.map((name, number) => [`f1.${name}`, f1(counts[number]!)])),
  };
}

function errors(outputs: Predictions['outputs'], targets: Predictions['targets']): Scores {
  const differences = outputs.flatMap((row, record) => row.map((value, column) => value - targets[record]![column]!));
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  return {
    records: outputs.length,
    mse: mean(differences.map((difference) => difference ** 2)),
    mae: mean(differences.map(Math.abs)),
  };
}

const largest = (row: readonly number[]): number => row.indexOf(row.reduce((a, b) => Math.max(a, b)));
const above = (row: readonly number[], limit: number): number[] =>
  row.flatMap((value, index) => (value > limit ? [index] : []));
