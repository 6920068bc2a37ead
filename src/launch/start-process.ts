// Starts a head or a node agent from its boot file and waits until it says that it is ready.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type BootReady,
  type HeadBoot,
  type HeadKnown,
  type NodeBoot,
  newProcessName,
  RayliteError,
} from '../common/index.js';
import { rebuildError } from '../protocol/index.js';
import { bootFileName, removeDeadStarts } from './session.js';

/** A process of a cluster did not start; its own words say why. */
export class StartFailedError extends RayliteError {
  readonly code = 'RAYLITE_START_FAILED';
  constructor(what: string, detail: string, logFile: string) {
    super(`the ${what} did not start: ${detail}\n  its log: ${logFile}`);
  }
}

const READY_MS_MAX = 60_000;

export interface Started<Kind extends 'head' | 'node'> {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ready: Extract<BootReady, { readonly kind: Kind }>;
}

export type AnyStarted = Started<'head'> | Started<'node'>;

/**
 * Starts dist/<kind>/main.js with `boot` and waits until it serves. Rejects, with nothing left running, if it does not:
 * with what the process itself said, or with {@link StartFailedError}. A node whose `boot` names no head is told
 * `headAddress` once that is known.
 */
export async function startProcess<Kind extends 'head' | 'node'>(
  kind: Kind,
  boot: Kind extends 'head' ? HeadBoot : NodeBoot,
  headAddress?: Promise<string>,
): Promise<Started<Kind>> {
  removeDeadStarts(dirname(boot.sessionDir));
  const bootFile = join(boot.sessionDir, bootFileName(newProcessName()));
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
    const told = headAddress?.then((address) => child.send({ headAddress: address } satisfies HeadKnown));
    const [ready] = await Promise.all([untilReady(child), told]);
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
    const timer = setTimeout(() => {
      const message = `it was not ready within ${READY_MS_MAX / 1000} s`;
      resolve({ kind: 'failed', code: '', message, fields: {} });
    }, READY_MS_MAX);
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

/** A mistake of the user stays one: the error of the process, built again. Anything else is told with its log. */
function toError(failed: Extract<BootReady, { readonly kind: 'failed' }>, kind: string, logFile: string): Error {
  const { code, message, fields } = failed;
  if (!code.startsWith('RAYLITE_')) return new StartFailedError(kind, message, logFile);
  return rebuildError({ code, name: 'Error', message, stack: '', fields, cause: undefined, hasCause: false });
}
