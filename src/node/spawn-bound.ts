// Starts a process in a group of its own that dies with this one, however this one dies.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** util-linux: asks the kernel to kill the child when its parent ends, also by SIGKILL. Without it a child notices by its closed socket. */
const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path)) ?? null;

/** @param umask of the child: what user code writes has the modes its user is used to, not the agent's */
export function spawnBound(
  command: string,
  args: readonly string[],
  options: SpawnOptions,
  umask: number,
): ChildProcess {
  const all = { ...options, detached: true };
  const own = process.umask(umask); // inherited at the fork, which happens inside spawn
  try {
    return SETPRIV ? spawn(SETPRIV, ['--pdeathsig', 'KILL', '--', command, ...args], all) : spawn(command, args, all);
  } finally {
    process.umask(own);
  }
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
