// What a test run leaves behind on the machine: processes, shared memory, sockets, network namespaces, temporary files.
// Only its own things: another raylite may be running beside it.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface Before {
  readonly sharedMemory: ReadonlySet<string>;
  readonly namespaces: ReadonlySet<string>;
}

export interface LeakedProcess {
  readonly pid: number;
  readonly command: string;
}

const SHARED_MEMORY = '/dev/shm';
const NAMESPACES = '/run/netns';

/** What other programs keep in the temporary folder as a cache on purpose. */
const CACHES = /^(tsx-\d+|node-compile-cache|v8-compile-cache.*)$/;

/** The folder that the sessions of a user lie in; it stays when the last session has gone. */
const ROOT = /^raylite-\d+$/;

export function lookBefore(): Before {
  return { sharedMemory: new Set(list(SHARED_MEMORY)), namespaces: new Set(list(NAMESPACES)) };
}

/** Processes that carry `variable` in the environment they were started with, without this one. */
export function processesWith(variable: string): readonly LeakedProcess[] {
  return list('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => read(`/proc/${pid}/environ`).split('\0').includes(variable))
    .map((pid) => ({
      pid: Number(pid),
      command: read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim() || '(ended)',
    }))
    .filter(({ command }) => command !== '(ended)'); // a zombie waits for its parent, not for us
}

/** One line for everything else that was left. `runDir` is the temporary folder that the tests were given. */
export function lookAfter(before: Before, runDir: string): readonly string[] {
  const memory = list(SHARED_MEMORY)
    .filter((name) => name.startsWith('raylite') && !before.sharedMemory.has(name))
    .filter((name) => !isMapped(join(SHARED_MEMORY, name)))
    .map((name) => `left in shared memory: ${join(SHARED_MEMORY, name)}`);
  const namespaces = list(NAMESPACES)
    .filter((name) => !before.namespaces.has(name) && (name.startsWith('rl') || name.startsWith('raylite')))
    .map((name) => `left network namespace: ${name}`);
  const files = list(runDir)
    .filter((name) => !CACHES.test(name) && !(ROOT.test(name) && list(join(runDir, name)).length === 0))
    .map((name) => `left in the temporary folder: ${describe(runDir, name)}`);
  const sockets = read('/proc/net/unix')
    .split('\n')
    .filter((line) => line.includes(runDir))
    .map((line) => `left open: Unix socket ${line.slice(line.indexOf(runDir))}`);
  return [...memory, ...namespaces, ...files, ...sockets];
}

/** True while some process maps or opens the file: then it belongs to a raylite that still runs, not to this run. */
function isMapped(path: string): boolean {
  return list('/proc').some((pid) => /^\d+$/.test(pid) && read(`/proc/${pid}/maps`).includes(path));
}

function describe(folder: string, name: string): string {
  const stat = statSync(join(folder, name), { throwIfNoEntry: false });
  return stat?.isDirectory() ? `${name}/ (${list(join(folder, name)).slice(0, 5).join(', ') || 'empty'})` : name;
}

function list(folder: string): readonly string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process ended while we looked, or is not ours to read
  }
}
