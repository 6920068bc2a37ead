// Runs the files of one phase, so many at a time, and yields each result as it comes. With `secondTry` a file that failed runs
// once more, and the result carries the first failure.
import type { Phase } from './phases.js';
import { type FileResult, type RunOptions, runTestFile } from './test-file.js';

export async function* runPhase(
  phase: Phase,
  { secondTry, ...options }: Omit<RunOptions, 'node' | 'timeoutMs'> & { readonly secondTry: boolean },
): AsyncGenerator<FileResult & { readonly firstTry: FileResult | null }> {
  const waiting = [...phase.files];
  const firstTries = new Map<string, FileResult>();
  const running = new Map<string, Promise<FileResult>>();
  while (waiting.length > 0 || running.size > 0) {
    while (running.size < phase.concurrency && waiting.length > 0) {
      const file = waiting.shift()!;
      running.set(file, runTestFile(file, { ...options, node: phase.node, timeoutMs: phase.timeoutMs }));
    }
    const result = await Promise.race(running.values());
    running.delete(result.file);
    const firstTry = firstTries.get(result.file) ?? null;
    if (secondTry && !firstTry && result.failed.length > 0) {
      firstTries.set(result.file, result);
      waiting.push(result.file);
    } else yield { ...result, firstTry };
  }
}
