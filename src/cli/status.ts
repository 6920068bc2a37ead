// `raylite status`: nodes, what is used of what there is, what waits and why, recent jobs and runs.
import type { Command } from 'commander';
import { formatBytes, type Resources } from '../common/index.js';
import type { ClusterView, JobView, NodeView, RunView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { clean, duration, paint, print, printJson, table } from './output.js';

const JOBS_SHOWN = 5;
const RUNS_SHOWN = 3;

export function register(program: Command): void {
  withCluster(program.command('status'))
    .summary('nodes, resources, what waits, recent jobs')
    .description('Shows the nodes of the cluster, used and total resources, work that waits and why, and recent jobs.')
    .option('--json', 'print everything as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite status')
    .action(async (options: ClusterOptions & { readonly json?: true }) => {
      const api = ClusterApi.find(options);
      const [cluster, nodes, jobs, runs] = await Promise.all([
        api.get<ClusterView>('/api/cluster'),
        api.get<NodeView[]>('/api/nodes'),
        api.get<JobView[]>('/api/jobs/'),
        api.get<RunView[]>('/api/runs'),
      ]);
      if (options.json) printJson({ cluster, nodes, jobs, runs });
      else show(cluster, nodes, jobs, runs);
    });
}

function show(
  cluster: ClusterView,
  nodes: readonly NodeView[],
  jobs: readonly JobView[],
  runs: readonly RunView[],
): void {
  print(`${paint('bold', cluster.headAddress)}  cluster ${cluster.clusterId}, raylite ${cluster.version}`);
  print(`Resources  ${useOf(cluster.used, cluster.total) || 'none: no node has joined'}`);
  print();
  print(`Nodes (${cluster.nodeCount} alive)`);
  const shown = nodes.filter((node) => node.state !== 'DEAD');
  if (shown.length > 0) {
    print(
      table(
        ['NODE', 'HOST', 'STATE', 'RESOURCES', 'MEMORY', 'OBJECT STORE'],
        shown.map((node) => [
          `${node.nodeId}${node.isHead ? ' (head)' : ''}`,
          node.hostname,
          nodeStateOf(node),
          useOf(node.used, node.total),
          node.beat ? `${formatBytes(node.beat.memoryUsedBytes)}/${formatBytes(node.beat.memoryTotalBytes)}` : '-',
          node.beat ? `${formatBytes(node.beat.storeUsedBytes)}/${formatBytes(node.beat.storeTotalBytes)}` : '-',
        ]),
      ),
    );
  }
  if (cluster.pending.length > 0) {
    print();
    print(`Waiting (${cluster.pendingCount})`);
    print(
      table(
        ['KIND', 'WHAT', 'WHY'],
        cluster.pending.map((item) => [item.kind, item.what, item.reason]),
      ),
    );
  }
  if (jobs.length > 0) {
    print();
    print('Recent jobs');
    print(jobTable(jobs.slice(0, JOBS_SHOWN)));
  }
  for (const { latest } of runs.slice(0, RUNS_SHOWN)) {
    const loss = latest.loss === undefined ? '' : `, loss ${latest.loss.toFixed(4)}`;
    print();
    const why = latest.message === undefined ? '' : `: ${clean(latest.message)}`;
    print(`Run ${clean(latest.name)}: ${latest.state}, step ${latest.step} of ${latest.totalSteps}${loss}${why}`);
  }
}

/** "ALIVE"; "DRAINING (preemption: spot), 24.0 s left". */
export function nodeStateOf({ state, stateReason, drainDeadlineAtMs }: NodeView): string {
  if (state !== 'DRAINING') return state;
  const left = drainDeadlineAtMs === null ? '' : `, ${duration(Math.max(0, drainDeadlineAtMs - Date.now()))} left`;
  return `DRAINING (${clean(stateReason ?? '')})${left}`;
}

/** "1/4 CPU, 0 B/12 GiB memory". */
export function useOf(used: Resources, total: Resources): string {
  const text = (name: string, amount: number): string => (name === 'memory' ? formatBytes(amount) : String(amount));
  return Object.entries(total)
    .map(([name, amount]) => `${text(name, used[name] ?? 0)}/${text(name, amount)} ${name}`)
    .join(', ');
}

export function jobTable(jobs: readonly JobView[]): string {
  return table(
    ['JOB', 'TYPE', 'STATUS', 'TOOK', 'ENTRYPOINT'],
    jobs.map((job) => [
      job.job_id,
      job.type,
      job.status,
      job.start_time === null ? '-' : duration((job.end_time ?? Date.now()) - job.start_time),
      job.entrypoint.length > 60 ? `${job.entrypoint.slice(0, 57)}…` : job.entrypoint,
    ]),
  );
}
