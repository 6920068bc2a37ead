// Starts a process in a group of its own that dies with this one, however this one dies.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** util-linux: asks the kernel to kill the child when its parent ends, also by SIGKILL. Without it a child notices by its closed socket. */
const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path)) ?? null;

export function spawnBound(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const all = { ...options, detached: true };
  return SETPRIV ? spawn(SETPRIV, ['--pdeathsig', 'KILL', '--', command, ...args], all) : spawn(command, args, all);
}

/** Signals the whole group of a process made by {@link spawnBound}. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // it has ended
  }
}
