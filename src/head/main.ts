// The head's process: `node dist/head/main.js --boot FILE`. Reads its boot file, serves, and says so over IPC.
import { onceParentEnds, readBoot, tellNotStarted, tellParent } from '../protocol/index.js';
import { type Head, startHead } from './server.js';

const EXIT_FAILED = 1;

const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);

function fatal(error: unknown): never {
  log(`the head cannot go on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exit(EXIT_FAILED);
}

let head: Head | null = null;
function stop(why: string): void {
  log(`stopping: ${why}`);
  if (head) head[Symbol.asyncDispose]().then(() => process.exit(0), fatal);
  else process.exit(0);
}

process.umask(0o077);
process.once('SIGTERM', () => stop('SIGTERM'));
process.once('SIGINT', () => stop('SIGINT'));
process.on('uncaughtException', fatal);
process.on('unhandledRejection', fatal);
try {
  const boot = readBoot('head', 'Start a head with "raylite start --head"');
  if (boot.diesWithParent) onceParentEnds(boot.sessionDir, () => stop('its parent ended'));
  head = await startHead(boot, fatal);
  log(`listening on ${head.address}, page and API on ${head.httpUrl}`);
  await tellParent({ kind: 'head', address: head.address, httpUrl: head.httpUrl, pid: process.pid });
  if (!boot.diesWithParent && process.connected) process.disconnect();
} catch (error) {
  await tellNotStarted(error, log);
  process.exit(EXIT_FAILED);
}
