// `raylite list nodes|actors|jobs|workers|tasks|objects|pgs`: one row a thing.
import type { Command } from 'commander';
import { formatResources } from '../common/index.js';
import type {
  ActorView,
  CallsView,
  CallView,
  JobView,
  NodeView,
  ObjectsView,
  ObjectView,
  PlacementGroupView,
  WorkerView,
} from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { objectList } from './memory.js';
import { millis, print, printJson, table } from './output.js';
import { jobTable, nodeStateOf, useOf } from './status.js';
import { workerTable } from './top.js';

/** Rows of tasks, the latest first; --json has all that are kept. */
const TASKS_SHOWN = 100;

type ListOptions = ClusterOptions & { readonly json?: true };

export function register(program: Command): void {
  const list = program
    .command('list')
    .summary('list nodes, actors, jobs, workers, tasks, objects or placement groups')
    .description('Lists what the cluster has: nodes, actors, jobs, workers, tasks, objects or placement groups.')
    .addHelpText('after', '\nExample:\n  $ raylite list actors --json');
  verb<NodeView[], NodeView>(
    list,
    'nodes',
    '/api/nodes',
    (nodes) => nodes,
    (nodes) =>
      table(
        ['NODE', 'HOST', 'ADDRESS', 'STATE', 'RESOURCES', 'LABELS'],
        nodes.map((node) => [
          `${node.nodeId}${node.isHead ? ' (head)' : ''}`,
          node.hostname,
          node.host,
          nodeStateOf(node),
          useOf(node.used, node.total),
          Object.entries(node.labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(','),
        ]),
      ),
  );
  verb<ActorView[], ActorView>(
    list,
    'actors',
    '/api/actors',
    (actors) => actors,
    (actors) =>
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
  verb<JobView[], JobView>(list, 'jobs', '/api/jobs/', (jobs) => jobs, jobTable);
  verb<WorkerView[], WorkerView>(list, 'workers', '/api/workers', (workers) => workers, workerTable);
  verb<CallsView, CallView>(
    list,
    'tasks',
    '/api/calls',
    ({ calls }) => calls.filter(({ kind }) => kind === 'task').reverse(),
    (tasks) =>
      table(
        ['TASK', 'STATE', 'HOST', 'PID', 'STARTED', 'TOOK', 'JOB'],
        tasks
          .slice(0, TASKS_SHOWN)
          .map((task) => [
            task.name,
            task.state,
            task.hostname,
            String(task.pid),
            new Date(task.startedAtMs).toISOString(),
            millis((task.endedAtMs ?? Date.now()) - task.startedAtMs),
            task.jobId,
          ]),
      ),
  );
  verb<ObjectsView, ObjectView>(list, 'objects', '/api/objects', ({ objects }) => objects, objectList);
  verb<PlacementGroupView[], PlacementGroupView>(
    list,
    'pgs',
    '/api/placement-groups',
    (groups) => groups,
    (groups) =>
      table(
        ['GROUP', 'NAME', 'STATE', 'STRATEGY', 'BUNDLES', 'WHY'],
        groups.map((group) => [
          group.groupId,
          group.name || '-',
          group.state,
          group.strategy,
          group.bundles
            .map(({ resources, used, nodeId }) => `${useOf(used, resources)} on ${nodeId ?? 'no node'}`)
            .join('; '),
          group.reason ?? '',
        ]),
      ),
    'placement groups',
  );
}

function verb<Answer, Row>(
  list: Command,
  name: string,
  path: string,
  rowsOf: (answer: Answer) => readonly Row[],
  show: (rows: readonly Row[]) => string,
  what = name,
): void {
  withCluster(list.command(name))
    .description(`Lists the ${what} of the cluster.`)
    .option('--json', 'print them as JSON')
    .addHelpText('after', `\nExample:\n  $ raylite list ${name}`)
    .action(async (options: ListOptions) => {
      const rows = rowsOf(await ClusterApi.find(options).get<Answer>(path));
      if (options.json) printJson(rows);
      else if (rows.length === 0) print(`There are no ${what}.`);
      else print(show(rows));
    });
}
