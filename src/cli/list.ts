// `raylite list nodes|actors|jobs`: one row a thing.
import type { Command } from 'commander';
import { formatResources } from '../common/index.js';
import type { ActorView, JobView, NodeView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { print, printJson, table } from './output.js';
import { jobTable, useOf } from './status.js';

type ListOptions = ClusterOptions & { readonly json?: true };

export function register(program: Command): void {
  const list = program
    .command('list')
    .summary('list nodes, actors or jobs')
    .description('Lists what the cluster has: nodes, actors or jobs.')
    .addHelpText('after', '\nExample:\n  $ raylite list actors --json');
  verb<NodeView>(list, 'nodes', '/api/nodes', (nodes) =>
    table(
      ['NODE', 'HOST', 'ADDRESS', 'STATE', 'RESOURCES', 'LABELS'],
      nodes.map((node) => [
        `${node.nodeId}${node.isHead ? ' (head)' : ''}`,
        node.hostname,
        node.host,
        node.state,
        useOf(node.used, node.total),
        Object.entries(node.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
      ]),
    ),
  );
  verb<ActorView>(list, 'actors', '/api/actors', (actors) =>
    table(
      ['ACTOR', 'CLASS', 'NAME', 'STATE', 'NODE', 'PID', 'HOLDS', 'RESTARTS', 'WHY'],
      actors.map((actor) => [
        actor.actorId,
        actor.className,
        actor.name || '-',
        actor.state,
        actor.nodeId ?? '-',
        actor.pid === null ? '-' : String(actor.pid),
        formatResources(actor.resources),
        String(actor.restartCount),
        actor.reason ?? '',
      ]),
    ),
  );
  verb<JobView>(list, 'jobs', '/api/jobs/', jobTable);
}

function verb<T>(list: Command, what: string, path: string, show: (rows: readonly T[]) => string): void {
  withCluster(list.command(what))
    .description(`Lists the ${what} of the cluster.`)
    .option('--json', 'print them as JSON')
    .addHelpText('after', `\nExample:\n  $ raylite list ${what}`)
    .action(async (options: ListOptions) => {
      const rows = await ClusterApi.find(options).get<T[]>(path);
      if (options.json) printJson(rows);
      else if (rows.length === 0) print(`There are no ${what}.`);
      else print(show(rows));
    });
}
