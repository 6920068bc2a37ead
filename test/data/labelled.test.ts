// Labelled texts: what labels mean, CSV, special tokens and types of pairs, and where labels lie in packed rows.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  decodeLabelled,
  type Label,
  labelTask,
  layOutLabelled,
  problemOf,
  readDecoded,
  tokeniseLabelled,
  withTargets,
} from '#src/data/index.js';
import { letters } from './letters.js';

test('labels are one class by name or number, several at once, or numbers', () => {
  const tasks: readonly (readonly [readonly Label[], string, readonly string[]])[] = [
    [['spam', 'ham', 'spam'], 'single_label_classification', ['ham', 'spam']],
    [[0, 2], 'single_label_classification', ['LABEL_0', 'LABEL_1', 'LABEL_2']],
    [['10', '9'], 'single_label_classification', ['9', '10']],
    [[0.5, 2], 'regression', ['LABEL_0']],
    [['0.5', '2'], 'regression', ['LABEL_0']],
    [[['b'], [], ['a', 'b']], 'multi_label_classification', ['a', 'b']],
  ];
  for (const [labels, problemType, names] of tasks) assert.deepEqual(labelTask(labels), { problemType, names });
  assert.equal(problemOf([1, 2]), 'single_label_classification');
  assert.deepEqual(labelTask([1, 2], 'regression').names, ['LABEL_0']);
  const targets = (label: Label, of: readonly Label[]) =>
    withTargets([{ place: 'x:1', record: { text: '', label } }], labelTask(of));
  assert.deepEqual(targets('b', ['a', 'b']).known[0]?.record.target, [1]);
  assert.deepEqual(targets(['b'], [['a'], ['b']]).known[0]?.record.target, [0, 1]);
  assert.deepEqual(targets('2.5', [0.5]).known[0]?.record.target, [2.5]);
  assert.deepEqual(targets('c', ['a', 'b']).unknown, [
    { place: 'x:1', detail: 'label: expected one of a, b, got "c"' },
  ]);
  assert.equal(decodeLabelled({ text: 'x' }), 'label: expected a name, a number or a list of them, got nothing');
});

test('CSV: quotes hold commas, quotes and line breaks; a row of another width is told with its line', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'raylite-csv-'));
  try {
    const file = join(folder, 'data.csv');
    const head = 'text,label\r\n"one, ""two""\nthree",spam\r\n';
    await writeFile(file, `${head},ham\r\n`);
    const { records } = await readDecoded(file, decodeLabelled);
    assert.deepEqual(records, [
      { place: `${file}:2`, record: { text: 'one, "two"\nthree', label: 'spam' } },
      { place: `${file}:4`, record: { text: '', label: 'ham' } },
    ]);
    await writeFile(file, `${head}a,b,c\n`);
    await assert.rejects(readDecoded(file, decodeLabelled), /data\.csv:4: has 3 fields where the first line names 2/);
    await writeFile(file, 'text,label\n"a,b\n');
    await assert.rejects(readDecoded(file, decodeLabelled), /data\.csv:2: opens a quote/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

const record = (target: readonly number[], text: string, pair?: string) => ({
  place: 'here',
  record: { text, target, ...(pair === undefined ? {} : { text_pair: pair }) },
});

test('texts have special tokens, also when cut; the two of a pair have types', async () => {
  const shard = await tokeniseLabelled(
    [record([1], 'a b'), record([0], 'a', 'b c'), record([1], 'a b c d e f')],
    letters,
    { maxTokens: 6 },
  );
  assert.deepEqual([...shard.tokens], [2, 5, 6, 3, 2, 5, 3, 6, 7, 3, 2, 5, 6, 7, 8, 3]);
  assert.deepEqual([...shard.types], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
  assert.equal(shard.truncated, 1);
});

test('the first or the last token of each sequence has the class, or the numbers', async () => {
  const shard = await tokeniseLabelled([record([1], 'a'), record([0], 'b')], letters, { maxTokens: 8 });
  const layOut = (labelAt: 'first' | 'last') => layOutLabelled([[1, 0]], [shard], 8, 0, { labelAt, isClass: true });
  assert.deepEqual([...layOut('first').labels], [0, -100, -100, 1, -100, -100, -100, -100]);
  assert.deepEqual([...layOut('last').labels], [-100, -100, 0, -100, -100, 1, -100, -100]);
  assert.equal(layOut('last').labelCount, 2);
  const pairs = await tokeniseLabelled([record([0.5, 2], 'a')], letters, { maxTokens: 4 });
  const { targets, labels } = layOutLabelled([[0]], [pairs], 4, 0, { labelAt: 'last', isClass: false });
  assert.deepEqual([...targets!], [NaN, NaN, NaN, NaN, 0.5, 2, NaN, NaN]);
  assert.ok(labels.every((label) => label === -100));
});
