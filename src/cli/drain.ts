// `raylite drain`: has a node leave the cluster in an orderly way.
import type { Command } from 'commander';
import { ConfigError } from '../common/index.js';
import type { DrainRequest, NodeView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { amountOption } from './options.js';
import { print, printJson } from './output.js';

interface DrainOptions extends ClusterOptions {
  readonly reason: NonNullable<DrainRequest['reason']>;
  readonly reasonMessage?: string;
  readonly deadlineRemainingSeconds?: number;
  readonly json?: true;
}

export function register(program: Command): void {
  withCluster(program.command('drain'))
    .summary('have a node leave the cluster in an orderly way')
    .description(
      'Has a node leave: nothing new is placed there, elastic training runs move their workers away, and the node ends once nothing runs on it, or when its time is over.',
    )
    .argument('<node>', 'its id, as "raylite list nodes" shows it')
    .option(
      '--reason <reason>',
      'preemption, or idle-termination, which is refused while something runs there',
      reasonOption,
      'preemption',
    )
    .option('--reason-message <text>', 'why, for people')
    .option(
      '--deadline-remaining-seconds <n>',
      'after so long what still runs there is ended (default: it has as long as it takes)',
      amountOption('--deadline-remaining-seconds'),
    )
    .option('--json', 'print the node as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite drain 1a2b3c4d5e6f7a8b --deadline-remaining-seconds 120')
    .action(async (nodeId: string, options: DrainOptions) => {
      const { reason, reasonMessage, deadlineRemainingSeconds } = options;
      const request: DrainRequest = {
        reason,
        ...(reasonMessage !== undefined && { reason_message: reasonMessage }),
        ...(deadlineRemainingSeconds !== undefined && { deadline_remaining_seconds: deadlineRemainingSeconds }),
      };
      const path = `/api/nodes/${encodeURIComponent(nodeId)}/drain`;
      const node = await ClusterApi.find(options).post<NodeView>(path, request);
      if (options.json) printJson(node);
      else
        print(
          `Node ${nodeId} is to leave: nothing new is placed there, and it ends once nothing runs on it${deadlineRemainingSeconds === undefined ? '' : `, in ${deadlineRemainingSeconds} s at the latest`}.`,
        );
    });
}

function reasonOption(text: string): string {
  if (text !== 'preemption' && text !== 'idle-termination')
    throw new ConfigError('--reason', 'preemption or idle-termination', text);
  return text;
}
