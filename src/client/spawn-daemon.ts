// Starts a head or a node agent from its boot file and waits until it says that it is ready.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BootReady, ConnectionError, type HeadBoot, type NodeBoot } from '../common/index.js';

export interface Daemon extends AsyncDisposable {
  readonly ready: BootReady;
  readonly process: ChildProcess;
}

const STOP_MS_MAX = 3_000;

/**
 * Starts the process of `boot` with its output in `<sessionDir>/logs`. Rejects with {@link ConnectionError} when it cannot
 * start. Disposing ends it: politely, then by force.
 */
export async function spawnDaemon(boot: HeadBoot | NodeBoot): Promise<Daemon> {
  const file = join(boot.sessionDir, `${boot.kind}.boot.json`);
  writeFileSync(file, JSON.stringify(boot), { mode: 0o600 });
  const log = openSync(join(boot.sessionDir, 'logs', `${boot.kind}.out`), 'a', 0o600);
  const main = fileURLToPath(new URL(`../${boot.kind}/main.js`, import.meta.url));
  // A group of its own: Ctrl-C in the terminal goes to the driver, which ends its cluster in order.
  const child = spawn(process.execPath, [main, '--boot', file], { stdio: ['ignore', log, log, 'ipc'], detached: true });
  closeSync(log);
  const ready = await new Promise<BootReady>((resolve, reject) => {
    const fail = (detail: string): void => {
      child.kill('SIGKILL');
      reject(new ConnectionError({ address: boot.kind, detail }));
    };
    child.once('error', (cause) => fail(`the ${boot.kind} cannot be started: ${cause.message}`));
    child.once('exit', (code, signal) =>
      fail(`the ${boot.kind} ended with ${signal ?? code} before it was ready; see ${boot.sessionDir}/logs`),
    );
    child.once('message', (message) => {
      const said = message as BootReady;
      if (said.kind === 'failed') fail(said.message);
      else resolve(said);
    });
  });
  child.removeAllListeners('exit');
  child.unref();
  child.channel?.unref();
  return {
    ready,
    process: child,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.ref();
      child.kill('SIGTERM');
      const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
      await ended;
      clearTimeout(force);
    },
  };
}
