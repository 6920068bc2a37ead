// `raylite stop`: ends what `raylite start` started on this machine.
import type { Command } from 'commander';
import { readCurrent, removeCurrent, sessionRoot, stopProcesses } from '../launch/index.js';
import { print, printJson } from './output.js';

export function register(program: Command): void {
  program
    .command('stop')
    .summary('end the cluster processes of this machine')
    .description(
      'Ends the head and the nodes that "raylite start" started on this machine, and their workers. A node whose head runs elsewhere leaves in an orderly way: what runs on it has the time that "raylite start --drain-seconds" gave it.',
    )
    .option('--force', 'at once, whatever runs')
    .option('--json', 'print what was stopped as JSON')
    .addHelpText('after', '\nExamples:\n  $ raylite stop\n  $ raylite stop --force')
    .action(async (options: { readonly json?: true; readonly force?: true }) => {
      const root = sessionRoot();
      const current = readCurrent(root);
      const stopped = await stopProcesses(current?.pids ?? [], root, options.force ? 0 : current?.drainSeconds);
      removeCurrent(root);
      if (options.json) printJson({ stopped });
      else if (stopped.length === 0) print('Nothing of raylite was running here.');
      else
        print(
          `Stopped ${stopped.length === 1 ? 'one process' : `${stopped.length} processes`}. Logs: ${current?.sessionDir}/logs`,
        );
    });
}
