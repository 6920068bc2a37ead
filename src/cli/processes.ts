// Starts and ends the processes of a cluster on this machine. A process is only ever ended after a look at what it is:
// a pid in a file may belong to somebody else by now.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type BootReady, type HeadBoot, type NodeBoot, RayliteError } from '../common/index.js';

/** A process of a cluster did not start; its own words say why. */
export class StartFailedError extends RayliteError {
  readonly code = 'RAYLITE_START_FAILED';
  constructor(what: string, detail: string, logFile: string) {
    super(`the ${what} did not start: ${detail}\n  its log: ${logFile}`);
  }
}

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 10_000;
const POLL_MS = 50;

export interface Started<Kind extends BootReady['kind']> {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ready: Extract<BootReady, { readonly kind: Kind }>;
}

export type AnyStarted = Started<'head'> | Started<'node'>;

/** Starts dist/<kind>/main.js with `boot` and waits until it serves. Rejects, with nothing left running, if it does not. */
export async function startProcess<Kind extends 'head' | 'node'>(
  kind: Kind,
  boot: Kind extends 'head' ? HeadBoot : NodeBoot,
): Promise<Started<Kind>> {
  const bootFile = join(boot.sessionDir, `boot-${randomBytes(6).toString('hex')}.json`);
  const logFile = join(boot.sessionDir, 'logs', `${kind}.log`);
  writeFileSync(bootFile, JSON.stringify(boot), { mode: 0o600, flag: 'wx' });
  const log = openSync(logFile, 'a', 0o600);
  const main = fileURLToPath(new URL(`../${kind}/main.js`, import.meta.url));
  const child = spawn(process.execPath, [main, '--boot', bootFile], {
    detached: true, // a group of its own: Ctrl-C in the terminal is for us to pass on
    stdio: ['ignore', log, log, 'ipc'],
    cwd: boot.sessionDir,
    env: environment(),
  });
  closeSync(log);
  try {
    const ready = await untilReady(child);
    if (ready === null)
      throw new StartFailedError(kind, `it ended with ${child.signalCode ?? child.exitCode}`, logFile);
    if (ready.kind === 'failed') throw toError(ready, kind, logFile);
    if (ready.kind !== kind) throw new StartFailedError(kind, `it said ${ready.kind}`, logFile);
    if (!boot.diesWithParent) {
      if (child.connected) child.disconnect();
      child.unref();
    }
    return { child, pid: child.pid!, ready: ready as Started<Kind>['ready'] };
  } catch (error) {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    throw error;
  } finally {
    rmSync(bootFile, { force: true });
  }
}

/** The token travels in the boot file alone. */
function environment(): NodeJS.ProcessEnv {
  const { RAYLITE_TOKEN: _, ...rest } = process.env;
  return rest;
}

function untilReady(child: ChildProcess): Promise<BootReady | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => resolve({ kind: 'failed', code: '', message: `it was not ready within ${READY_MS_MAX / 1000} s` }),
      READY_MS_MAX,
    );
    const settle = (ready: BootReady | null): void => {
      clearTimeout(timer);
      resolve(ready);
    };
    child.once('message', (message) => settle(message as BootReady));
    child.once('exit', () => settle(null));
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

/** What the process itself said is the error; a mistake of the user stays one. */
function toError(failed: Extract<BootReady, { readonly kind: 'failed' }>, kind: string, logFile: string): Error {
  const mistakes = ['RAYLITE_CONFIG', 'RAYLITE_CONNECTION', 'RAYLITE_HEAD_STATE'];
  return mistakes.includes(failed.code)
    ? new RefusedError(failed.code, failed.message)
    : new StartFailedError(kind, failed.message, logFile);
}

/** An error of another process, in its own words. */
class RefusedError extends RayliteError {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Whether `pid` is a head or node that was started from `root`. */
export function isOurs(pid: number, root: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const isZombie = /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return !isZombie && args.includes('--boot') && args.some((arg) => arg.startsWith(`${root}/session-`));
  } catch {
    return false;
  }
}

/** Whether `pid` is the head of `root`, not one of its nodes. */
export function isHeadProcess(pid: number, root: string): boolean {
  return isOurs(pid, root) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('/head/main.js');
}

/** Asks each process to end, nodes before heads, and ends it by force when it does not. Returns those that ran. */
export async function stopProcesses(pids: readonly number[], root: string): Promise<readonly number[]> {
  const running = pids.filter((pid) => isOurs(pid, root));
  const nodes = running.filter((pid) => !isHeadProcess(pid, root));
  for (const group of [nodes, running.filter((pid) => !nodes.includes(pid))]) {
    for (const pid of group) signal(pid, 'SIGTERM', root);
    const deadline = Date.now() + STOP_MS_MAX;
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
