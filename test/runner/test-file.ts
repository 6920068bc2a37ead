// Runs one test file in a process of its own under node:test and reads its results. A file that crashes, hangs or ends
// early is a failure that names the test it was in.
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';

export type TestLine =
  | { readonly kind: 'started' | 'ended' | 'passed'; readonly name: string }
  | { readonly kind: 'skipped'; readonly name: string; readonly reason: string }
  | { readonly kind: 'failed'; readonly name: string; readonly detail: string };

export interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: readonly { readonly name: string; readonly detail: string }[];
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  readonly seconds: number;
  /** Everything the file printed; shown when it failed. */
  readonly output: string;
}

export interface RunOptions {
  readonly node: string;
  readonly root: string;
  /** A folder of this run; the file's events and output are written here. */
  readonly logDir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
}

const reporter = fileURLToPath(new URL('./events-reporter.js', import.meta.url));

/** Runs `file` (relative to `root`) and never rejects for what the file does. */
export async function runTestFile(file: string, options: RunOptions): Promise<FileResult> {
  const base = join(options.logDir, file.replaceAll('/', '_'));
  const events = `${base}.events`;
  const log = createWriteStream(`${base}.log`);
  const start = performance.now();
  const child = spawn(
    options.node,
    ['--enable-source-maps', `--test-reporter=${reporter}`, `--test-reporter-destination=${events}`, file],
    // A group of its own, so that a hanging file can be ended with everything that it started.
    { cwd: options.root, env: options.env, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  const end = await untilExit(child, options.timeoutMs);
  log.end();
  await finished(log);
  return summarise(
    file,
    readLines(events),
    end,
    (performance.now() - start) / 1000,
    readFileSync(`${base}.log`, 'utf8'),
  );
}

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly timedOutMs: number | null;
}

function untilExit(child: ChildProcess, timeoutMs: number): Promise<End> {
  return new Promise((resolve, reject) => {
    let timedOutMs: number | null = null;
    const timer = setTimeout(() => {
      timedOutMs = timeoutMs;
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      // A process left behind may hold the pipes open for ever: what it would still print belongs to the leak report.
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ code, signal, timedOutMs });
    });
  });
}

function readLines(events: string): readonly TestLine[] {
  try {
    const complete = readFileSync(events, 'utf8').split('\n').slice(0, -1);
    return complete.map((line) => JSON.parse(line) as TestLine);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // it ended before it had a reporter
    throw error;
  }
}

/** Adds what only the process's end tells to what its tests said. */
export function summarise(
  file: string,
  lines: readonly TestLine[],
  end: End,
  seconds: number,
  output: string,
): FileResult {
  const skipped = lines.filter((line) => line.kind === 'skipped');
  const failed: { name: string; detail: string }[] = lines.filter((line) => line.kind === 'failed');
  const passed = lines.filter((line) => line.kind === 'passed').length;
  const finishedNames = lines.filter((line) => line.kind !== 'started').map((line) => line.name);
  const unfinished = lines.filter((line) => line.kind === 'started' && !finishedNames.includes(line.name));
  const within = unfinished.length ? ` in ${unfinished.map(({ name }) => `"${name}"`).join(', ')}` : '';
  if (end.timedOutMs !== null)
    failed.push({
      name: 'the file',
      detail: `did not end within ${end.timedOutMs / 1000} s${within || ' after its last test: something is still open'}`,
    });
  else if (end.signal) failed.push({ name: 'the file', detail: `was ended by ${end.signal}${within}` });
  else if (end.code !== 0 && failed.length === 0)
    failed.push({ name: 'the file', detail: `ended with exit code ${end.code}${within}` });
  else if (end.code === 0 && unfinished.length > 0) failed.push({ name: 'the file', detail: `ended early${within}` });
  else if (passed + failed.length + skipped.length === 0) failed.push({ name: 'the file', detail: 'has no test' });
  return { file, passed, failed, skipped, seconds, output };
}
