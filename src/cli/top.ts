// `raylite top`: nodes and workers with what they use, again and again until it is ended.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes } from '../common/index.js';
import type { NodeView, WorkerView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { duration, paint, print, printJson, table } from './output.js';
import { useOf } from './status.js';

interface TopOptions extends ClusterOptions {
  readonly once?: true;
  readonly json?: true;
  readonly every: number;
  readonly sortBy: 'cpu' | 'memory';
}

const CLEAR = '\u001b[H\u001b[2J';

export function register(program: Command): void {
  withCluster(program.command('top'))
    .summary('nodes and workers with what they use, live')
    .description(
      'Shows nodes and workers with the CPUs and memory that they use and what runs in them, and goes on until Ctrl-C. Memory of a worker is its own: the object store is not in it.',
    )
    .option('--every <seconds>', 'time between two looks', seconds, 2)
    .option('--sort-by <what>', 'cpu or memory', sortKey, 'cpu')
    .option('--once', 'look once')
    .option('--json', 'look once and print it as JSON')
    .addHelpText('after', '\nExamples:\n  $ raylite top\n  $ raylite top --once --sort-by memory')
    .action(async (options: TopOptions) => {
      const api = ClusterApi.find(options);
      if (options.json) {
        const { nodes, workers } = await look(api, options);
        printJson({ nodes, workers });
        return;
      }
      const isLive = !options.once && process.stdout.isTTY;
      for (;;) {
        const { nodes, workers } = await look(api, options);
        if (isLive) process.stdout.write(CLEAR);
        show(nodes, workers);
        if (options.once) return;
        await sleep(options.every * 1000);
        if (!isLive) print();
      }
    });
}

async function look(
  api: ClusterApi,
  { sortBy }: TopOptions,
): Promise<{ readonly nodes: readonly NodeView[]; readonly workers: readonly WorkerView[] }> {
  const [nodes, workers] = await Promise.all([
    api.get<NodeView[]>('/api/nodes'),
    api.get<WorkerView[]>('/api/workers'),
  ]);
  const weight = ({ cpuPercent, memoryBytes }: WorkerView): number => (sortBy === 'cpu' ? cpuPercent : memoryBytes);
  return {
    nodes: nodes.filter(({ state }) => state !== 'DEAD'),
    workers: workers.sort((a, b) => weight(b) - weight(a)),
  };
}

function show(nodes: readonly NodeView[], workers: readonly WorkerView[]): void {
  print(
    table(
      ['NODE', 'HOST', 'CPU', 'MEMORY', 'OBJECT STORE', 'IN USE'],
      nodes.map(({ nodeId, hostname, beat, used, total }) => [
        nodeId,
        hostname,
        beat ? `${Math.round(beat.cpuPercent)} %` : '-',
        beat ? `${formatBytes(beat.memoryUsedBytes)}/${formatBytes(beat.memoryTotalBytes)}` : '-',
        beat ? `${formatBytes(beat.storeUsedBytes)}/${formatBytes(beat.storeTotalBytes)}` : '-',
        useOf(used, total),
      ]),
    ),
  );
  print();
  print(workers.length === 0 ? paint('dim', 'No worker serves an actor or a task.') : workerTable(workers));
}

export const workerTable = (workers: readonly WorkerView[]): string =>
  table(
    ['WORKER', 'HOST', 'PID', 'SERVES', 'CPU', 'MEMORY', 'SINCE', 'RUNS'],
    workers.map((worker) => [
      worker.workerId,
      worker.hostname,
      String(worker.pid),
      worker.kind === 'actor' ? worker.name : 'tasks',
      `${Math.round(worker.cpuPercent)} %`,
      formatBytes(worker.memoryBytes),
      duration(Date.now() - worker.startedAtMs),
      [...new Set(worker.running)].join(', ') || '-',
    ]),
  );

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.1 && value <= 3600)) throw new InvalidArgumentError('a number of seconds from 0.1 to 3600.');
  return value;
}

function sortKey(text: string): 'cpu' | 'memory' {
  if (text !== 'cpu' && text !== 'memory') throw new InvalidArgumentError('cpu or memory.');
  return text;
}
