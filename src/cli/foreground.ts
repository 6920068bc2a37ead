// `--block`: a command that stays while the processes that it started run, and ends them when it is asked to end.
import { type AnyStarted, isOurs, readCurrent, removeCurrent, stopProcesses, writeCurrent } from '../launch/index.js';
import { EXIT_FAILURE, EXIT_INTERRUPTED, paint } from './output.js';

/** The first SIGINT or SIGTERM from now on. Asked for before a process is started, so that no Ctrl-C is lost. */
export function firstSignal(): Promise<null> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => {
      process.exitCode = EXIT_INTERRUPTED;
      resolve(null);
    });
    process.once('SIGTERM', () => resolve(null)); // how service managers end it: no failure
  });
}

/** Waits for the signal, upon which nodes have `drainSeconds` to leave, or for one of the processes to end by itself, then ends the rest. */
export async function stay(
  root: string,
  started: readonly AnyStarted[],
  signalled: Promise<null>,
  drainSeconds = 0,
): Promise<void> {
  const ended = new Promise<string | null>((resolve) => {
    for (const { child, ready } of started)
      child.once('exit', (code, signal) =>
        // A node that was drained ends by itself, as it should.
        resolve(code === 0 && ready.kind === 'node' ? null : `the ${ready.kind} ended with ${signal ?? code}`),
      );
  });
  const why = await Promise.race([signalled, ended]);
  const pids = started.map(({ pid }) => pid);
  await stopProcesses(pids, root, drainSeconds);
  const left = readCurrent(root);
  const others = left?.pids.filter((pid) => !pids.includes(pid) && isOurs(pid, root)) ?? [];
  if (left && others.length > 0) writeCurrent(root, { ...left, pids: others });
  else removeCurrent(root);
  if (why !== null) {
    process.stderr.write(`${paint('red', 'error', process.stderr)}: ${why}\n`);
    process.exitCode = EXIT_FAILURE;
  }
}
