// Workers and the calls that they ran as JSON: for `raylite top`, `timeline`, `list` and `summary`. Pure.
import type { wire } from '../../protocol/index.js';
import type { ClusterState } from '../cluster-state.js';
import type { SurveyResult } from '../node-survey.js';

export interface WorkerView {
  readonly workerId: string;
  readonly nodeId: string;
  readonly hostname: string;
  readonly pid: number;
  /** "actor" or "task". */
  readonly kind: 'actor' | 'task';
  /** The class of its actor, or empty. */
  readonly name: string;
  readonly actorId: string | null;
  readonly jobId: string;
  /** Of one CPU. */
  readonly cpuPercent: number;
  readonly memoryBytes: number;
  /** Names of calls that were running when it said so last. */
  readonly running: readonly string[];
  readonly startedAtMs: number;
}

export interface CallView {
  readonly name: string;
  readonly kind: 'actor' | 'task';
  readonly state: 'RUNNING' | 'FINISHED' | 'FAILED';
  readonly nodeId: string;
  readonly hostname: string;
  readonly workerId: string;
  readonly pid: number;
  readonly actorId: string | null;
  readonly jobId: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
}

export interface CallsView {
  /** In the order of their beginnings. */
  readonly calls: readonly CallView[];
  readonly silentNodes: readonly string[];
  /** Calls that were too many to keep. */
  readonly omittedCount: number;
}

export const workersView = (state: ClusterState): readonly WorkerView[] =>
  [...state.nodes.values()].flatMap(({ nodeId, hostname, status, beat }) =>
    status !== 'connected'
      ? []
      : (beat?.workers ?? []).map(({ actorId, ...worker }) => ({
          ...worker,
          nodeId,
          hostname,
          kind: actorId === '' ? ('task' as const) : ('actor' as const),
          actorId: actorId || null,
        })),
  );

export function callsView(state: ClusterState, { nodes, silent }: SurveyResult<wire.NodeCalls.$Properties>): CallsView {
  const calls: CallView[] = [];
  let omittedCount = 0;
  for (const [nodeId, node] of nodes) {
    omittedCount += node.omittedCount ?? 0;
    const hostname = state.nodes.get(nodeId)?.hostname ?? '';
    for (const worker of node.workers ?? [])
      for (const { name, startMs, endMs, isFailed } of worker.calls ?? [])
        calls.push({
          name: name ?? '',
          kind: worker.actorId ? 'actor' : 'task',
          state: !endMs ? 'RUNNING' : isFailed ? 'FAILED' : 'FINISHED',
          nodeId,
          hostname,
          workerId: worker.workerId ?? '',
          pid: worker.pid ?? 0,
          actorId: worker.actorId || null,
          jobId: worker.jobId ?? '',
          startedAtMs: startMs ?? 0,
          endedAtMs: endMs || null,
        });
  }
  return { calls: calls.sort((a, b) => a.startedAtMs - b.startedAtMs), silentNodes: silent, omittedCount };
}
