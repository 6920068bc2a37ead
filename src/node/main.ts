// The node agent's process: `node dist/node/main.js --boot FILE`. Reads its boot file, joins, and says so over IPC.
import type { HeadKnown } from '../common/index.js';
import { onceParentEnds, readBoot, tellNotStarted, tellParent } from '../protocol/index.js';
import { Agent } from './agent.js';

const EXIT_FAILED = 1;
const END_MS_MAX = 2_000;

/** The head starts at the same time as this node: the parent says where it is. */
function headAddressOfParent(): Promise<string> {
  return new Promise((resolve) => {
    process.once('message', (message) => resolve((message as HeadKnown).headAddress));
  });
}

const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);

const usersUmask = process.umask(0o077); // sockets, logs and packages are this user's alone
let agent: Agent | null = null;
function stop(why: string, exitCode: number): void {
  log(`ending: ${why}`);
  // What must never stay behind is gone first; the rest has a moment.
  setTimeout(() => process.exit(exitCode), END_MS_MAX).unref();
  const end = (): void => process.exit(exitCode);
  if (agent) agent[Symbol.asyncDispose]().then(end, end);
  else end();
}
const fatal = (error: unknown): void =>
  stop(
    `the node cannot go on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    EXIT_FAILED,
  );
process.on('uncaughtException', fatal);
process.on('unhandledRejection', fatal);
let drainSeconds = 0;
/** How Kubernetes, Slurm and others end a machine: what runs has a while to go elsewhere. A second signal ends it at once. */
process.once('SIGTERM', () => {
  process.once('SIGTERM', () => stop('SIGTERM', 0));
  if (drainSeconds === 0 || !agent?.drain(drainSeconds, 'its machine sent SIGTERM')) {
    stop('SIGTERM', 0);
    return;
  }
  log(`leaving: SIGTERM, at most ${drainSeconds} s`);
  setTimeout(() => stop('its time to leave is over', 0), 1000 * drainSeconds).unref();
});
process.once('SIGINT', () => stop('SIGINT', 0));

try {
  const boot = readBoot('node', 'Start a node with "raylite start --address HOST:PORT"');
  drainSeconds = boot.drainSeconds ?? 0;
  if (boot.diesWithParent) onceParentEnds(boot.sessionDir, () => stop('its parent ended', 0));
  agent = await Agent.start({ ...boot, headAddress: boot.headAddress ?? (await headAddressOfParent()) }, usersUmask);
  agent.ended.then(({ reason, isDrained }) => stop(reason, isDrained ? 0 : EXIT_FAILED), fatal);
  await tellParent({ kind: 'node', nodeId: agent.nodeId, uds: agent.uds, pid: process.pid });
  if (!boot.diesWithParent && process.connected) process.disconnect();
} catch (error) {
  await tellNotStarted(error, log);
  process.exit(EXIT_FAILED);
}
