// On a machine with a GPU, out of the archive: says what the machine has, then runs the tests on the GPU, the golden cases,
// the sanitizers or the figures. The last line counts everything; nothing is left out without a line of its own.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findCuda, native } from '#src/native/index.js';
import { SANITIZED, TESTS } from './contents.js';

const HERE = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}
const total: Count = { passed: 0, failed: 0, skipped: 0 };

function add(what: string, count: Count, seconds: number): void {
  total.passed += count.passed;
  total.failed += count.failed;
  total.skipped += count.skipped;
  const { passed, failed, skipped } = count;
  console.log(`${what}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds.toFixed(1)} s)`);
}

/** Runs a command, shows its output, returns it. */
function run(command: string, args: readonly string[]): { readonly output: string; readonly status: number | null } {
  const { stdout, stderr, status, error } = spawnSync(command, args, {
    cwd: HERE,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  return { output: error ? String(error) : `${stdout}${stderr}`, status: error ? null : status };
}

const numberOf = (output: string, pattern: RegExp): number => Number(output.match(pattern)?.[1] ?? 0);

/** Only the tests on CUDA: those of the CPU have been run where the archive was made. */
const testArguments = (test: string): readonly string[] => [
  ...['--test-reporter=tap', '--test-name-pattern=CUDA|GPU', '--test'],
  join(HERE, 'tests', `${test}.mjs`),
];

/** Files whose names of tests say nothing of CUDA run on it among other devices, or alone. */
const RUN_WHOLE = new Set<string>([
  'native/cuda',
  'native/cuda-host',
  'engine/cuda',
  'engine/cuda-offload',
  'engine/nf4',
  'engine/optimizers',
  'engine/rounding-by-chance',
]);

function runTest(test: string, wrapper: readonly string[] = []): void {
  const start = performance.now();
  const args = RUN_WHOLE.has(test)
    ? ['--test-reporter=tap', '--test', join(HERE, 'tests', `${test}.mjs`)]
    : testArguments(test);
  const [command, ...rest] = [...wrapper, process.execPath, ...args] as [string, ...string[]];
  const { output, status } = run(command, rest);
  const count = {
    passed: numberOf(output, /^# pass (\d+)/m),
    failed: numberOf(output, /^# fail (\d+)/m),
    // Those of the CPU, left out by their names, have been run where the archive was made.
    skipped:
      (output.match(/# SKIP(?! test name does not match pattern)/g)?.length ?? 0) +
      numberOf(output, /^# cancelled (\d+)/m),
  };
  const reports = numberOf(output, /ERROR SUMMARY: (\d+) error/);
  if (count.passed + count.failed === 0 || (status !== 0 && count.failed === 0) || reports > 0)
    count.failed += Math.max(1, reports);
  if (count.failed > 0) console.log(failuresOf(output));
  add(`${wrapper[2] ?? 'test'} ${test}`, count, (performance.now() - start) / 1000);
}

/** What a reader wants of the output of failing tests: names, messages, reports of a sanitizer. */
function failuresOf(output: string): string {
  const lines = output.split('\n');
  const shown = lines.filter((line) => /^\s*not ok|^\s*error:|Error|expected|=========/.test(line));
  return (shown.length > 0 ? shown : lines).slice(0, 80).join('\n');
}

function tests(): void {
  for (const test of TESTS) runTest(test);
  const folder = join(HERE, 'golden');
  if (!existsSync(folder)) {
    add('golden cases (none in the archive)', { passed: 0, failed: 0, skipped: 1 }, 0);
    return;
  }
  const start = performance.now();
  const { output } = run(process.execPath, [join(HERE, 'tests/golden/main.mjs'), '--device', 'cuda', folder]);
  console.log(
    output
      .split('\n')
      .filter((line) => line.startsWith('FAILED'))
      .join('\n'),
  );
  const [, passed, failed, skipped] = output.match(/(\d+) passed, (\d+) failed, (\d+) skipped/) ?? [
    null,
    '0',
    '1',
    '0',
  ];
  const count = { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) };
  add(`golden cases (${readdirSync(folder).join(', ')})`, count, (performance.now() - start) / 1000);
}

function sanitize(): void {
  const tool = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(
    (path) => run(path, ['--version']).status === 0,
  );
  if (!tool) {
    add('compute-sanitizer (not on this machine)', { passed: 0, failed: 0, skipped: 1 }, 0);
    return;
  }
  for (const kind of ['memcheck', 'racecheck', 'synccheck', 'initcheck'])
    for (const test of SANITIZED)
      runTest(test, [tool, '--tool', kind, '--target-processes', 'all', '--error-exitcode', '9']);
}

function bench(): void {
  const start = performance.now();
  let failed = 0;
  for (const [command, file] of [
    [process.execPath, 'bench/gpu/ours.mjs'],
    ['python3', 'bench/gpu/peer.py'],
  ] as const) {
    const { status } = spawnSync(command, [join(HERE, file), join(HERE, 'bench/gpu/shapes.json')], {
      cwd: HERE,
      stdio: 'inherit',
    });
    if (status !== 0) failed++;
  }
  add('figures', { passed: 2 - failed, failed, skipped: 0 }, (performance.now() - start) / 1000);
}

const MODES: Readonly<Record<string, () => void>> = {
  tests,
  sanitize,
  bench,
  all() {
    tests();
    bench();
    sanitize();
  },
};

const mode = MODES[process.argv[2] ?? 'tests'];
if (!mode) {
  console.error(`run: expected one of ${Object.keys(MODES).join(', ')}, got ${process.argv[2]}`);
  process.exit(2);
}
const found = findCuda(native());
console.log(JSON.stringify(found, null, 1));
if (found.devices.length > 0) {
  console.log(run('nvidia-smi', []).output.split('\n').slice(0, 20).join('\n'));
  mode();
} else {
  console.log(`Nothing can run here: ${found.reason ?? 'no GPU'}.`);
  total.failed++;
}
console.log(`GPU: ${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 ? 0 : 1;
