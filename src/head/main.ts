// The head's process: `node dist/head/main.js --boot FILE`. Reads its boot file, serves, and says so over IPC.
import { readFileSync, rmSync } from 'node:fs';
import { type BootReady, ConfigError, type HeadBoot, RayliteError } from '../common/index.js';
import { startHead } from './server.js';

const EXIT_FAILED = 1;

function readBoot(args: readonly string[]): HeadBoot {
  const path = args[args.indexOf('--boot') + 1];
  if (!args.includes('--boot') || path === undefined) {
    throw new ConfigError('--boot', 'the path of a boot file', path, 'Start a head with "raylite start --head"');
  }
  const boot = JSON.parse(readFileSync(path, 'utf8')) as HeadBoot;
  rmSync(path); // it holds the token
  if (boot.kind !== 'head') throw new ConfigError('kind', '"head"', boot.kind);
  return boot;
}

function tell(ready: BootReady): Promise<void> {
  return new Promise((resolve) => {
    if (process.send) process.send(ready, () => resolve());
    else resolve();
  });
}

const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);

function fatal(error: unknown): never {
  log(`the head cannot go on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exit(EXIT_FAILED);
}

process.umask(0o077);
process.on('uncaughtException', fatal);
process.on('unhandledRejection', fatal);
try {
  const boot = readBoot(process.argv.slice(2));
  const head = await startHead(boot, fatal);
  const stop = (why: string): void => {
    log(`stopping: ${why}`);
    head[Symbol.asyncDispose]().then(() => process.exit(0), fatal);
  };
  process.once('SIGTERM', () => stop('SIGTERM'));
  process.once('SIGINT', () => stop('SIGINT'));
  if (boot.diesWithParent) process.once('disconnect', () => stop('its parent ended'));
  log(`listening on ${head.address}, page and API on ${head.httpUrl}`);
  await tell({ kind: 'head', address: head.address, httpUrl: head.httpUrl, pid: process.pid });
  if (!boot.diesWithParent && process.connected) process.disconnect();
} catch (error) {
  const code = error instanceof RayliteError ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  log(`did not start: ${error instanceof RayliteError ? message : ((error as Error).stack ?? message)}`);
  await tell({ kind: 'failed', code, message, fields: error instanceof RayliteError ? { ...error } : {} });
  process.exit(EXIT_FAILED);
}
