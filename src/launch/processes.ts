// Ends the processes of a cluster on this machine. A process is only ever ended after a look at what it is: a pid in a
// file may belong to somebody else by now.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SESSION_PREFIX } from './session.js';

const STOP_MS_MAX = 10_000;
const POLL_MS = 50;

/** Whether `pid` is a head or node that was started from `root`. */
export function isOurs(pid: number, root: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const isZombie = /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return !isZombie && args.includes('--boot') && args.some((arg) => arg.startsWith(`${root}/${SESSION_PREFIX}`));
  } catch {
    return false;
  }
}

/** Whether `pid` is the head of `root`, not one of its nodes. */
export function isHeadProcess(pid: number, root: string): boolean {
  return isOurs(pid, root) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('/head/main.js');
}

/**
 * Asks each process to end, nodes before heads, and ends it by force when it does not. Nodes have `drainSeconds` to leave the cluster in an
 * orderly way; none where their head ends too. Returns those that ran.
 */
export async function stopProcesses(
  pids: readonly number[],
  root: string,
  drainSeconds = 0,
): Promise<readonly number[]> {
  const running = pids.filter((pid) => isOurs(pid, root));
  const nodes = running.filter((pid) => !isHeadProcess(pid, root));
  const heads = running.filter((pid) => !nodes.includes(pid));
  const seconds = heads.length > 0 ? 0 : drainSeconds;
  for (const group of [nodes, heads]) {
    for (const pid of group) signal(pid, seconds > 0 ? 'SIGTERM' : 'SIGINT', root);
    const deadline = Date.now() + STOP_MS_MAX + 1000 * seconds;
    while (group.some((pid) => isOurs(pid, root)) && Date.now() < deadline) await sleep(POLL_MS);
    for (const pid of group) signal(pid, 'SIGKILL', root);
  }
  return running;
}

function signal(pid: number, name: NodeJS.Signals, root: string): void {
  if (!isOurs(pid, root)) return;
  try {
    process.kill(pid, name);
  } catch {
    // it ended between the look and the signal
  }
}
