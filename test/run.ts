// `npm test`: runs every test file of build/tests in order, says what was skipped and why, and what was left behind.
// The last line is always "N passed, N failed, N skipped"; the exit code is 0 only if nothing failed.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lookAfter, lookBefore, processesWith } from './runner/leaks.js';
import { type Options, parseOptions, usage } from './runner/options.js';
import { findTestFiles, planPhases } from './runner/phases.js';
import { printFile, printSkips, printUnsteady } from './runner/report.js';
import { runPhase } from './runner/run-phase.js';

const TEST_DIR = 'build/tests/test';

async function main(options: Options): Promise<number> {
  const root = process.cwd();
  const phases = planPhases(findTestFiles(root, TEST_DIR), TEST_DIR, options);
  if (phases.length === 0) {
    console.error(`no test file's path contains ${JSON.stringify(options.only)}`);
    return 2;
  }
  // Short, because the paths of Unix sockets below it may have 108 bytes.
  const runDir = mkdtempSync(join(tmpdir(), 'rlt-'));
  const logDir = join(root, 'build/test-logs');
  rmSync(logDir, { recursive: true, force: true });
  mkdirSync(logDir, { recursive: true });
  const before = lookBefore();
  const env = {
    ...process.env,
    RAYLITE_TMPDIR: runDir,
    TMPDIR: runDir,
    ...(options.nightly && { RAYLITE_TEST_NIGHTLY: '1' }),
    ...(options.seed !== null && { RAYLITE_TEST_SEED: String(options.seed) }),
  };

  const results = [];
  for (const phase of phases) {
    console.log(`\n${phase.title}: ${phase.files.length} files`);
    for await (const result of runPhase(phase, { root, logDir, env, secondTry: options.secondTry })) {
      if (result.firstTry) printFile(result.firstTry);
      printFile(result);
      results.push(result);
    }
  }

  const leaks: string[] = [];
  for (const { pid, command } of processesWith(`RAYLITE_TMPDIR=${runDir}`)) {
    leaks.push(`still running: ${pid} ${command}`);
    process.kill(pid, 'SIGKILL');
  }
  leaks.push(...lookAfter(before, runDir));
  rmSync(runDir, { recursive: true, force: true });
  if (leaks.length > 0) console.log(`\nThe tests left things behind:\n${leaks.map((leak) => `  ${leak}`).join('\n')}`);

  printUnsteady(results);
  const forbidden = printSkips(results, options.forbidSkip);
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const skipped = results.reduce((sum, result) => sum + result.skipped.length, 0) - forbidden;
  const failed =
    results.reduce((sum, result) => sum + result.failed.length, 0) + forbidden + (leaks.length > 0 ? 1 : 0);
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(parseOptions(process.argv.slice(2), process.env));
} catch (error) {
  if (!(error instanceof TypeError) || !('code' in error)) throw error;
  console.error(`${error.message}\n\n${usage}`);
  process.exitCode = 2;
}
