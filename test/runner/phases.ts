// Which test files there are and in which order they run: quick ones first, side by side; whole clusters last, alone.
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Options } from './options.js';

export interface Phase {
  readonly title: string;
  readonly node: string;
  readonly files: readonly string[];
  readonly concurrency: number;
  readonly timeoutMs: number;
}

/** Rooms whose tests start many processes or take minutes; in this order after all others. */
const SLOW_ROOMS = ['golden', 'cluster', 'chaos', 'browser'];

export const FAST_TIMEOUT_MS = 180_000;
export const SLOW_TIMEOUT_MS = 600_000;
export const NIGHTLY_TIMEOUT_MS = 3_600_000;

/** All `*.test.js` below `<root>/<testDir>`, as paths relative to `root`. */
export function findTestFiles(root: string, testDir: string): readonly string[] {
  return readdirSync(join(root, testDir), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.js'))
    .map((path) => join(testDir, path))
    .sort();
}

export function planPhases(files: readonly string[], testDir: string, options: Options): readonly Phase[] {
  const chosen = files.filter((file) => options.only === null || file.includes(options.only));
  const roomOf = (file: string) => file.slice(testDir.length + 1).split('/')[0] ?? '';
  const fastFiles = chosen.filter((file) => !SLOW_ROOMS.includes(roomOf(file)));
  const fast = (node: string, title: string): Phase => ({
    title,
    node,
    files: fastFiles,
    concurrency: Math.max(1, Math.min(4, availableParallelism())),
    timeoutMs: options.nightly ? NIGHTLY_TIMEOUT_MS : FAST_TIMEOUT_MS,
  });
  const slow = (room: string): Phase => ({
    title: room,
    node: options.node,
    files: chosen.filter((file) => roomOf(file) === room),
    concurrency: 1,
    timeoutMs: options.nightly ? NIGHTLY_TIMEOUT_MS : SLOW_TIMEOUT_MS,
  });
  return [
    fast(options.node, 'fast'),
    ...(options.fast ? [] : SLOW_ROOMS.map(slow)),
    ...options.otherNodes.map((node) => fast(node, `fast, under ${node}`)),
  ].filter((phase) => phase.files.length > 0);
}
