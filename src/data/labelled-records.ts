// Records of texts with labels, and what their labels are: one class of several, several classes at once, or numbers.
import { ConfigError, show } from '../common/index.js';
import type { Placed } from './records.js';

/** A class by name or number, a number to predict, or a list of the classes that hold (or of numbers to predict). */
export type Label = string | number | readonly (string | number)[];

/** A text, or a pair of texts, with what is to be predicted of it. */
export interface LabelledRecord {
  readonly text: string;
  /** A second text, where the label is of a pair. */
  readonly text_pair?: string;
  readonly label: Label;
}

/** Values of `problem_type` in config.json. */
export const PROBLEM_TYPES = ['single_label_classification', 'multi_label_classification', 'regression'] as const;
/** What a classifier predicts, as `problem_type` of a config.json. */
export type ProblemType = (typeof PROBLEM_TYPES)[number];

/** What the labels of a set are: what is predicted, and the names. */
export interface LabelTask {
  readonly problemType: ProblemType;
  /** Names by number; as many as numbers are predicted. */
  readonly names: readonly string[];
}

/** Decodes one parsed value; a string says what is wrong with it. */
export function decodeLabelled(value: unknown): LabelledRecord | string {
  if (typeof value !== 'object' || value === null) return `expected an object with text and label, got ${show(value)}`;
  const { text, text_pair: pair, label } = value as Readonly<Record<string, unknown>>;
  if (typeof text !== 'string') return `text: expected text, got ${show(text)}`;
  if (pair !== undefined && pair !== null && typeof pair !== 'string')
    return `text_pair: expected text, got ${show(pair)}`;
  if (!isLabel(label)) return `label: expected a name, a number or a list of them, got ${show(label)}`;
  return { text, label, ...(typeof pair === 'string' ? { text_pair: pair } : {}) };
}

function isLabel(value: unknown): value is Label {
  if (Array.isArray(value)) return value.every((part) => isLabel(part) && !Array.isArray(part));
  return (typeof value === 'string' && value !== '') || (typeof value === 'number' && Number.isFinite(value));
}

const isNumeric = (label: Label): boolean =>
  typeof label === 'number' || (typeof label === 'string' && label.trim() !== '' && Number.isFinite(Number(label)));

/** What the labels say: lists are several classes at once, numbers with fractions are regression, everything else is one class. */
export function problemOf(labels: readonly Label[]): ProblemType {
  if (labels.some((label) => Array.isArray(label))) return 'multi_label_classification';
  const hasFraction = labels.some((label) => isNumeric(label) && !Number.isInteger(Number(label)));
  return hasFraction && labels.every(isNumeric) ? 'regression' : 'single_label_classification';
}

const CLASSES_MAX = 100_000; // more are numbers to predict, not classes

/** The classes that occur, in order of name; classes by number are 0 up to the largest. */
export function labelTask(labels: readonly Label[], problemType: ProblemType = problemOf(labels)): LabelTask {
  if (problemType === 'regression') {
    const first = labels[0];
    const count = Array.isArray(first) ? first.length : 1;
    return { problemType, names: Array.from({ length: count }, (_unused, index) => `LABEL_${index}`) };
  }
  const distinct = [...new Set(labels.flat() as (string | number)[])];
  if (distinct.every((label) => typeof label === 'number')) {
    const largest = distinct.reduce((a, b) => Math.max(a, b), 0);
    if (largest >= CLASSES_MAX)
      throw new ConfigError('classify.problemType', 'regression for labels this large', largest);
    return { problemType, names: Array.from({ length: largest + 1 }, (_unused, index) => `LABEL_${index}`) };
  }
  const names = [...new Set(distinct.map(String))].sort(byName);
  return { problemType, names };
}

function byName(a: string, b: string): number {
  if (isNumeric(a) && isNumeric(b)) return Number(a) - Number(b);
  return a < b ? -1 : 1;
}

/** A text with its label as numbers: the class; 0 or 1 for each class; or the numbers to predict. */
export interface TargetRecord {
  readonly text: string;
  readonly text_pair?: string;
  readonly target: readonly number[];
}

/** Records whose labels the task knows, and the places of the others with what is wrong there. */
export function withTargets(
  records: readonly Placed<LabelledRecord>[],
  task: LabelTask,
): {
  readonly known: readonly Placed<TargetRecord>[];
  readonly unknown: readonly { readonly place: string; readonly detail: string }[];
} {
  const numbers = new Map(task.names.map((name, index) => [name, index]));
  const known: Placed<TargetRecord>[] = [];
  const unknown: { place: string; detail: string }[] = [];
  for (const { place, record } of records) {
    const target = targetOf(record.label, task, numbers);
    if (typeof target === 'string') unknown.push({ place, detail: target });
    else known.push({ place, record: { ...record, target } });
  }
  return { known, unknown };
}

function targetOf(label: Label, task: LabelTask, numbers: ReadonlyMap<string, number>): readonly number[] | string {
  const { length } = task.names;
  const parts = (Array.isArray(label) ? label : [label]) as readonly (string | number)[];
  if (task.problemType === 'regression') {
    const values = parts.map(Number);
    if (values.length === length && values.every(Number.isFinite)) return values;
    return `label: expected ${length === 1 ? 'a number' : `a list of ${length} numbers`}, got ${show(label)}`;
  }
  const classes = parts.map((part) => numbers.get(String(part)) ?? (typeof part === 'number' ? part : -1));
  const wrong = classes.findIndex((number) => !(Number.isInteger(number) && number >= 0 && number < length));
  if (wrong >= 0) {
    const shown = task.names.length > 8 ? [...task.names.slice(0, 8), '…'] : task.names;
    return `label: expected one of ${shown.join(', ')}, got ${show(parts[wrong])}`;
  }
  if (task.problemType === 'multi_label_classification')
    return task.names.map((_name, index) => (classes.includes(index) ? 1 : 0));
  return classes.length === 1 ? classes : `label: expected one class, got ${show(label)}`;
}
