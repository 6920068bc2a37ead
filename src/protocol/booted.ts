// The child's side of src/common/boot.ts: a head or node agent reads its boot file and tells its parent how it went.
import { readFileSync, rmSync } from 'node:fs';
import { type BootReady, ConfigError, type HeadBoot, type NodeBoot, RayliteError } from '../common/index.js';

type Boot = HeadBoot | NodeBoot;

/** Reads the file that `--boot` names and removes it: it holds the token. `hint` says how such a process is started. */
export function readBoot<Kind extends Boot['kind']>(kind: Kind, hint: string): Extract<Boot, { kind: Kind }> {
  const args = process.argv.slice(2);
  const path = args[args.indexOf('--boot') + 1];
  if (!args.includes('--boot') || path === undefined)
    throw new ConfigError('--boot', 'the path of a boot file', path, hint);
  const boot = JSON.parse(readFileSync(path, 'utf8')) as Boot;
  rmSync(path);
  if (boot.kind !== kind) throw new ConfigError('kind', `"${kind}"`, boot.kind);
  return boot as Extract<Boot, { kind: Kind }>;
}

/** Resolves when the parent has the message, or at once where there is none. */
export function tellParent(ready: BootReady): Promise<void> {
  return new Promise((resolve) => {
    if (process.send) process.send(ready, () => resolve());
    else resolve();
  });
}

/**
 * Calls `end` once the parent is gone, also when it went before anybody listened. What then ends this process takes the
 * session's folder with it: nobody else may have come far enough to do so.
 */
export function onceParentEnds(sessionDir: string, end: () => void): void {
  const ended = (): void => {
    process.once('exit', () => rmSync(sessionDir, { recursive: true, force: true }));
    end();
  };
  if (process.connected) process.once('disconnect', ended);
  else ended();
}

/** Why a process did not start: a line for its log, and the error itself for the parent. */
export async function tellNotStarted(error: unknown, log: (line: string) => void): Promise<void> {
  const isOurs = error instanceof RayliteError;
  const message = error instanceof Error ? error.message : String(error);
  log(`did not start: ${isOurs ? message : ((error as Error).stack ?? message)}`);
  await tellParent({
    kind: 'failed',
    code: isOurs ? error.code : 'INTERNAL',
    message,
    fields: isOurs ? { ...error } : {},
  });
}
