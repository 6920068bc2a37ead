// `raylite explain ID`: why something waits, or where it is and why there.
import type { Command } from 'commander';
import type { Explanation } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { paint, print, printJson, table } from './output.js';

const NODES_SHOWN = 8;

export function register(program: Command): void {
  withCluster(program.command('explain'))
    .argument(
      '<id>',
      'of an actor, task, placement group, node, job, worker or object; or the name of an actor or group',
    )
    .summary('why something waits, or where it is and why there')
    .description(
      'Says why an actor, task, placement group, job or object waits (what keeps it off each node), or where it is and what decided for that node.',
    )
    .option('--json', 'print it as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite explain 1f2e3d4c5b6a7988')
    .action(async (id: string, options: ClusterOptions & { readonly json?: true }) => {
      const found = await ClusterApi.find(options).get<Explanation>(`/api/explain/${encodeURIComponent(id)}`);
      if (options.json) printJson(found);
      else print(explanationText(found));
    });
}

function explanationText({ kind, id, name, state, because, obstacles }: Explanation): string {
  const title = paint('bold', `${kind} ${id}${name === '' ? '' : ` (${name})`} is ${state}`);
  const lines = [title, ...because.map((sentence) => `  ${sentence}`)];
  if (obstacles.length === 0) return lines.join('\n');
  const rows = obstacles.map(({ detail, nodeIds }) => {
    const more = nodeIds.length > NODES_SHOWN ? ` and ${nodeIds.length - NODES_SHOWN} more` : '';
    return [String(nodeIds.length), detail, `${nodeIds.slice(0, NODES_SHOWN).join(' ')}${more}`];
  });
  return [...lines, '', table(['NODES', 'EACH', 'WHICH'], rows)].join('\n');
}
