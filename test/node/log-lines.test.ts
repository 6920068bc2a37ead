// The output of a worker on its way to the driver.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { LineBudget } from '#src/node/line-budget.js';
import { LogLines } from '#src/node/log-lines.js';

test('a worker has so many lines and characters in a window of time; the rest is counted', () => {
  const budget = new LineBudget({ windowMs: 100, linesMax: 3, charsMax: 20 });
  assert.deepEqual(
    [5, 5, 5, 5].map((chars) => budget.take(chars, 10)),
    [true, true, true, false],
  );
  assert.equal(budget.restMs(60), 50);
  assert.ok(budget.take(15, 110));
  assert.ok(!budget.take(6, 120));
  assert.equal(budget.takeDropped(), 2);
  assert.equal(budget.takeDropped(), 0);
});

test('what a worker writes beyond its budget is in its file, and the driver hears how much that is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-lines-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [out, error] = [new PassThrough(), new PassThrough()];
  const got: string[] = [];
  const path = join(folder, 'worker-w1.log');
  const budget = new LineBudget({ windowMs: 1e9, linesMax: 10, charsMax: 1e9 });
  const log = new LogLines({ out, error }, path, (lines) => got.push(...lines), budget);
  const all = Array.from({ length: 25 }, (_, index) => `line ${index}`);
  out.end(`${all.join('\n')}\n`);
  error.end();
  await log.ended;
  assert.deepEqual(got.slice(0, 10), all.slice(0, 10));
  assert.deepEqual(got.slice(10), ['[raylite: 15 lines were dropped here, too many at once; worker-w1.log has them]']);
  assert.equal(log.lastLines.at(-1), 'line 24');
  assert.equal(readFileSync(path, 'utf8'), `${all.join('\n')}\n`);
});
