// Runs the files of one phase, so many at a time, and yields each result as it comes.
import type { Phase } from './phases.js';
import { type FileResult, type RunOptions, runTestFile } from './test-file.js';

export async function* runPhase(
  phase: Phase,
  options: Omit<RunOptions, 'node' | 'timeoutMs'>,
): AsyncGenerator<FileResult> {
  const waiting = [...phase.files];
  const running = new Map<string, Promise<FileResult>>();
  while (waiting.length > 0 || running.size > 0) {
    while (running.size < phase.concurrency && waiting.length > 0) {
      const file = waiting.shift()!;
      running.set(file, runTestFile(file, { ...options, node: phase.node, timeoutMs: phase.timeoutMs }));
    }
    const result = await Promise.race(running.values());
    running.delete(result.file);
    yield result;
  }
}
