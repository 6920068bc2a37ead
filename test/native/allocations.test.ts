// A step allocates nothing: what the executor's threads ask of the allocator is counted by a preloaded library. The end of a
// run is told to the event loop, which costs some allocations a run; instructions and rows, however many, must add none.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../support/temporary-folder.js';

const CHILD = fileURLToPath(import.meta.resolve('./allocations-child.js'));
const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());
const library = join(folder.path, 'count-allocations.so');
const SOURCE = resolve('test/native/count-allocations.c');
const FLAGS = ['-shared', '-fPIC', '-O1', '-o', library, SOURCE];

let isBuilt = false;
before(() => {
  isBuilt = spawnSync('cc', FLAGS).status === 0; // glibc alone has the names it forwards to
});

/** Allocations of the executor's threads while they run `steps` steps. */
function allocations(layers: number, rows: number, steps: number): number {
  const args = [CHILD, ...[layers, rows, steps].map(String)];
  const child = spawnSync(process.execPath, args, { env: { ...process.env, LD_PRELOAD: library }, encoding: 'utf8' });
  assert.equal(child.status, 0, child.stderr);
  return Number(/^allocations (\d+)$/m.exec(child.stderr)?.[1]);
}

test('a step of a hundred times the work allocates no more than a small one', (t) => {
  if (!isBuilt) return t.skip('count-allocations.c does not compile here');
  const perStep = (layers: number, rows: number) => (allocations(layers, rows, 12) - allocations(layers, rows, 4)) / 8;
  const small = perStep(1, 12);
  assert.ok(small <= 20, `${small} a step, for the ends of two runs`);
  assert.equal(perStep(6, 200), small);
});
