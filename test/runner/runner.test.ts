// The runner of this suite: what it counts, and that a crash, a hang, an early end and a leak are failures.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { lookAfter, lookBefore, processesWith } from './leaks.js';
import { parseOptions } from './options.js';
import { planPhases } from './phases.js';
import { runPhase } from './run-phase.js';
import { type FileResult, runTestFile } from './test-file.js';

const head = "import { test, describe } from 'node:test';\n";

async function runSource(t: TestContext, source: string, timeoutMs = 60_000): Promise<FileResult> {
  const root = mkdtempSync(join(tmpdir(), 'runner-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, 'sample.test.mjs'), head + source);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  return runTestFile('sample.test.mjs', { node: process.execPath, root, logDir: root, env, timeoutMs });
}

test('tests, subtests and skips are counted, suites are not', async (t) => {
  const result = await runSource(
    t,
    `test('a', () => {});
     test('b', { skip: 'no Redis' }, () => {});
     test('c', (t) => t.skip('late'));
     describe('d', () => { test('e', () => {}); });
     test('f', async (t) => { await t.test('g', () => { throw new Error('broken'); }); });`,
  );
  assert.equal(result.passed, 2);
  assert.deepEqual(result.skipped, [
    { kind: 'skipped', name: 'b', reason: 'no Redis' },
    { kind: 'skipped', name: 'c', reason: 'late' },
  ]);
  assert.deepEqual(
    result.failed.map(({ name }) => name),
    ['g'],
  );
  assert.match(result.failed[0]!.detail, /broken/);
});

test('a file that cannot be loaded fails', async (t) => {
  const result = await runSource(t, "import './nowhere.mjs';");
  assert.equal(result.failed.length, 1);
  assert.match(result.output, /nowhere/);
});

test('a file that ends itself early fails, naming the test it was in', async (t) => {
  const result = await runSource(t, "test('quits', async () => { process.exit(0); });");
  assert.equal(result.failed.length, 1);
});

test('a file that never ends is ended and says where it was', async (t) => {
  const result = await runSource(t, "test('waits', () => new Promise(() => setInterval(() => {}, 1e6)));", 2000);
  assert.match(result.failed[0]!.detail, /did not end within 2 s/);
});

test('a file without a test fails', async (t) => {
  const result = await runSource(t, '');
  assert.deepEqual(
    result.failed.map(({ detail }) => detail),
    ['has no test'],
  );
});

test('what was left behind is found by the run it belongs to', async (t) => {
  const runDir = mkdtempSync(join(tmpdir(), 'rlt-'));
  t.after(() => rmSync(runDir, { recursive: true, force: true }));
  const before = lookBefore();
  const child = spawn(process.execPath, ['-e', 'console.log(1); setInterval(() => {}, 1e6)'], {
    env: { ...process.env, RAYLITE_TMPDIR: runDir },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  assert.deepEqual(
    processesWith(`RAYLITE_TMPDIR=${runDir}`).map(({ pid }) => pid),
    [child.pid],
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.deepEqual(processesWith(`RAYLITE_TMPDIR=${runDir}`), []);
  writeFileSync(join(runDir, 'forgotten'), '');
  assert.deepEqual(lookAfter(before, runDir), ['left in the temporary folder: forgotten']);
});

test('quick files come first, clusters alone and last, other Node versions run the quick part', () => {
  const files = ['t/cluster/a.test.js', 't/head/b.test.js', 't/browser/c.test.js'];
  const plan = (args: readonly string[], env = {}) =>
    planPhases(files, 't', parseOptions(args, env)).map((phase) => [phase.title, ...phase.files]);
  assert.deepEqual(plan([]), [
    ['fast', 't/head/b.test.js'],
    ['cluster', 't/cluster/a.test.js'],
    ['browser', 't/browser/c.test.js'],
  ]);
  assert.deepEqual(plan(['--fast']), [['fast', 't/head/b.test.js']]);
  assert.deepEqual(plan(['--only', 'cluster/']), [['cluster', 't/cluster/a.test.js']]);
  assert.deepEqual(plan(['--fast'], { RAYLITE_TEST_NODES: '/n22' }), [
    ['fast', 't/head/b.test.js'],
    ['fast, under /n22', 't/head/b.test.js'],
  ]);
  assert.throws(() => parseOptions(['--quick'], {}), TypeError);
  assert.throws(() => parseOptions(['--seed', 'today'], {}), /--seed: expected an integer, got today/);
  const [day, night] = [[], ['--nightly', '--seed', '7']].map((args) => parseOptions(args, {}));
  assert.deepEqual([day!.nightly, day!.seed, night!.nightly, night!.seed], [false, null, true, 7]);
  assert.ok(planPhases(files, 't', night!)[0]!.timeoutMs > planPhases(files, 't', day!)[0]!.timeoutMs);
});

test('with a second try an unsteady file passes and carries its first failure, a broken one still fails', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'runner-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const mark = JSON.stringify(join(root, 'mark'));
  const once = `import fs from 'node:fs'; test('once', () => { if (!fs.existsSync(${mark})) { fs.writeFileSync(${mark}, ''); throw new Error('first'); } });`;
  writeFileSync(join(root, 'once.test.mjs'), head + once);
  writeFileSync(join(root, 'never.test.mjs'), `${head}test('never', () => { throw new Error('again'); });`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const files = ['once.test.mjs', 'never.test.mjs'];
  const phase = { title: 'sample', files, concurrency: 2, node: process.execPath, timeoutMs: 60_000 };
  const seen = new Map<string, string>();
  for await (const result of runPhase(phase, { root, logDir: root, env, secondTry: true }))
    seen.set(result.file, `${result.firstTry?.failed.length} then ${result.failed.length}`);
  assert.deepEqual(Object.fromEntries(seen), { 'once.test.mjs': '1 then 0', 'never.test.mjs': '1 then 1' });
});
