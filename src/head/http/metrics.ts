// The cluster in Prometheus's text format. Names follow Ray's where there is a counterpart.
import { actorStateName } from '../actor-state.js';
import type { Cluster } from '../cluster.js';
import type { GpuUse } from '../entities.js';
import { nodeStateName } from '../wire-out.js';

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export function metricsText(cluster: Cluster): string {
  const { state } = cluster;
  const nodes = [...state.nodes.values()].filter((node) => node.status !== 'dead');
  const runs = cluster.runs.list();
  const count = (values: Iterable<string>, label: string): Sample[] => {
    const counts = new Map<string, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].map(([value, amount]) => [{ [label]: value }, amount]);
  };
  const ofNodes = (pick: (node: (typeof nodes)[number]) => number | undefined): Sample[] =>
    nodes.flatMap((node): Sample[] => {
      const value = pick(node);
      return value === undefined ? [] : [[{ node: node.nodeId }, value]];
    });
  const ofGpus = (pick: (gpu: GpuUse) => number): Sample[] =>
    nodes.flatMap(({ nodeId, beat }) =>
      (beat?.gpus ?? [])
        .filter((gpu) => pick(gpu) >= 0)
        .map((gpu): Sample => [{ node: nodeId, gpu: gpu.id, name: gpu.name }, pick(gpu)]),
    );
  const ofRuns = (pick: (run: (typeof runs)[number]['latest']) => number | undefined): Sample[] =>
    runs.flatMap(({ latest }): Sample[] => {
      const value = pick(latest);
      return value === undefined ? [] : [[{ run: latest.runId, name: latest.name }, value]];
    });
  return [
    family('raylite_nodes', 'Nodes by state.', count([...state.nodes.values()].map(nodeStateName), 'state')),
    family('raylite_actors', 'Actors by state.', count([...state.actors.values()].map(actorStateName), 'state')),
    family(
      'raylite_jobs',
      'Jobs by status.',
      count(
        [...state.jobs.values()].map((job) => job.status),
        'status',
      ),
    ),
    family(
      'raylite_leases',
      'Task leases by phase.',
      count(
        [...state.leases.values()].map((lease) => lease.phase.kind),
        'phase',
      ),
    ),
    family('raylite_pending', 'Placements that wait for room.', [[{}, state.pending.size]]),
    family('raylite_resources_total', 'Resources of connected nodes.', resources(nodes, 'total')),
    family('raylite_resources_used', 'Resources held by workers and jobs.', resources(nodes, 'used')),
    family(
      'raylite_node_cpu_percent',
      'CPU use of the machine, 0 to 100.',
      ofNodes((node) => node.beat?.cpuPercent),
    ),
    family(
      'raylite_node_memory_used_bytes',
      'Memory in use.',
      ofNodes((node) => node.beat?.memoryUsedBytes),
    ),
    family(
      'raylite_node_memory_total_bytes',
      'Memory of the machine.',
      ofNodes((node) => node.beat?.memoryTotalBytes),
    ),
    family(
      'raylite_object_store_used_bytes',
      'Object store in use.',
      ofNodes((node) => node.beat?.storeUsedBytes),
    ),
    family(
      'raylite_object_store_total_bytes',
      'Size of the object store.',
      ofNodes((node) => node.beat?.storeTotalBytes),
    ),
    family(
      'raylite_gpu_memory_used_bytes',
      'Memory of a GPU in use.',
      ofGpus((gpu) => gpu.memoryUsedBytes),
    ),
    family(
      'raylite_gpu_memory_total_bytes',
      'Memory of a GPU.',
      ofGpus((gpu) => gpu.memoryTotalBytes),
    ),
    family(
      'raylite_gpu_busy_percent',
      'Share of the time in which a GPU computes, 0 to 100.',
      ofGpus((gpu) => gpu.busyPercent),
    ),
    family(
      'raylite_gpu_faulty',
      '1 for a GPU that is broken and gets no more workers.',
      ofGpus((gpu) => (gpu.fault === '' ? 0 : 1)),
    ),
    family(
      'raylite_train_step',
      'Optimizer steps done.',
      ofRuns((run) => run.step),
    ),
    family(
      'raylite_train_loss',
      'Loss of the latest step.',
      ofRuns((run) => run.loss),
    ),
    family(
      'raylite_train_learning_rate',
      'Learning rate of the latest step.',
      ofRuns((run) => run.learningRate),
    ),
    family(
      'raylite_train_tokens_per_second',
      'Training throughput.',
      ofRuns((run) => run.tokensPerSecond),
    ),
    family(
      'raylite_train_memory_bytes',
      'Memory of the fullest worker.',
      ofRuns((run) => run.memoryBytes),
    ),
  ].join('');
}

function resources(
  nodes: readonly { readonly nodeId: string; readonly total: object; readonly used: object }[],
  which: 'total' | 'used',
): readonly Sample[] {
  return nodes.flatMap((node) =>
    Object.entries(node[which] as Record<string, number>).map(
      ([name, amount]): Sample => [{ node: node.nodeId, resource: name }, amount],
    ),
  );
}

function family(name: string, help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return '';
  const lines = samples.map(([labels, value]) => {
    const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
    return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('\n')}\n`;
}

const escaped = (text: string): string => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
