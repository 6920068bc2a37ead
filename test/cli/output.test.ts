// How the command line shows text that others wrote.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { oneLine, table } from '#src/cli/output.js';

test('an answer is shown on one line, with its line ends visible and nothing that a terminal obeys', () => {
  assert.equal(oneLine(' one\n\ttwo\r\nthree \n'), 'one\\n\\ttwo\\nthree');
  assert.equal(oneLine('a\u001b[31mb\u0007'), 'a [31mb');
  assert.equal(oneLine(' \u200b\u0000 '), '');
});

test('control characters in cells do not reach the terminal', () => {
  assert.equal(table(['NAME', 'X'], [['a\u001b[2J', '1']]), 'NAME   X\na [2J  1');
});
