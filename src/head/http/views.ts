// The cluster as JSON for the page, the command line and scripts. Jobs have Ray's field names. Values of environment
// variables never leave: only their names do.
import {
  type ActorId,
  addResources,
  type GroupId,
  type LeaseId,
  RAYLITE_VERSION,
  type Resources,
  subtractResources,
} from '../../common/index.js';
import type { RunReport } from '../../observe/index.js';
import { actorStateName } from '../actor-state.js';
import type { Cluster } from '../cluster.js';
import type { ClusterState } from '../cluster-state.js';
import { drainText } from '../drain-state.js';
import type { ActorRecord, GroupRecord, JobRecord, NodeBeat, NodeRecord } from '../entities.js';
import { groupStateName } from '../group-state.js';
import type { PendingKey } from '../pending-queue.js';
import type { RunRecord } from '../runs.js';
import { waitReasons } from '../schedule.js';
import { split } from '../waiting.js';
import { type NodeStateName, nodeStateName } from '../wire-out.js';

export interface NodeView {
  readonly nodeId: string;
  readonly hostname: string;
  readonly host: string;
  readonly state: NodeStateName;
  readonly stateReason: string | null; // why it is dead, or is to leave
  readonly drainDeadlineAtMs: number | null; // when what still runs there is ended; null: no time was set
  readonly isHead: boolean;
  readonly total: Resources;
  readonly used: Resources;
  readonly labels: Readonly<Record<string, string>>;
  readonly beat: Omit<NodeBeat, 'workers'> | null; // these have a view of their own
  readonly joinedAtMs: number;
  readonly endedAtMs: number | null;
  readonly version: string;
}

export interface ActorView {
  readonly actorId: string;
  readonly className: string;
  readonly name: string;
  readonly namespace: string;
  readonly state: string;
  readonly jobId: string;
  readonly nodeId: string | null;
  readonly pid: number | null;
  readonly resources: Resources;
  readonly restartCount: number;
  readonly reason: string | null; // why it waits, or why it died
  readonly createdAtMs: number;
}

export interface PlacementGroupView {
  readonly groupId: string;
  readonly name: string;
  readonly namespace: string;
  readonly state: 'PENDING' | 'CREATED' | 'RESCHEDULING';
  readonly strategy: string;
  readonly topologyDomain: string | null;
  readonly jobId: string;
  readonly isDetached: boolean;
  readonly bundles: readonly {
    readonly resources: Resources;
    readonly used: Resources;
    readonly nodeId: string | null;
  }[];
  readonly reason: string | null; // why it waits
  readonly createdAtMs: number;
}

export interface JobView {
  readonly type: 'SUBMISSION' | 'DRIVER';
  readonly job_id: string;
  readonly submission_id: string | null;
  readonly status: string;
  readonly entrypoint: string;
  readonly message: string;
  readonly start_time: number | null; // ms
  readonly end_time: number | null;
  readonly submit_time: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly runtime_env: { readonly working_dir?: string; readonly env_vars: Readonly<Record<string, string>> };
  readonly driver_node_id: string | null;
  readonly driver_exit_code: number | null;
  readonly log_bytes: number;
}

export interface RunView {
  readonly latest: RunReport;
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
}

export interface ClusterView {
  readonly clusterId: string;
  readonly version: string;
  readonly headAddress: string;
  readonly total: Resources;
  readonly used: Resources;
  readonly nodeCount: number;
  /** What waits for room, the first few of all. */
  readonly pending: readonly { readonly kind: string; readonly what: string; readonly reason: string }[];
  readonly pendingCount: number;
}

export interface Snapshot {
  readonly cluster: ClusterView;
  readonly nodes: readonly NodeView[];
  readonly actors: readonly ActorView[];
  readonly jobs: readonly JobView[];
  readonly runs: readonly RunView[];
}

type WhyWaits = ReturnType<typeof waitReasons>;

const HIDDEN = '***';
/** Rows of a kind in one live snapshot, newest first. */
const SNAPSHOT_ROWS_MAX = 200;

const machineOf = ({ workers: _, ...machine }: NodeBeat): Omit<NodeBeat, 'workers'> => machine;

export const nodeView = (node: NodeRecord): NodeView => ({
  nodeId: node.nodeId,
  hostname: node.hostname,
  host: node.host,
  state: nodeStateName(node),
  stateReason: node.endReason ?? (node.drain ? drainText(node.drain) : null),
  drainDeadlineAtMs: node.drain?.deadlineAtMs ?? null,
  isHead: node.isHead,
  total: node.total,
  used: node.used,
  labels: node.labels,
  beat: node.beat && machineOf(node.beat),
  joinedAtMs: node.joinedAtMs,
  endedAtMs: node.endedAtMs,
  version: node.version,
});

function actorView(actor: ActorRecord, whyWaits: WhyWaits): ActorView {
  const { phase } = actor;
  return {
    actorId: actor.actorId,
    className: actor.className,
    name: actor.name,
    namespace: actor.namespace,
    state: actorStateName(actor),
    jobId: actor.jobId,
    nodeId: phase.kind === 'alive' || phase.kind === 'starting' ? phase.nodeId : null,
    pid: phase.kind === 'alive' ? phase.pid : null,
    resources: actor.holds,
    restartCount: actor.restartCount,
    reason: phase.kind === 'dead' ? phase.death.detail : whyWaits(`actor:${actor.actorId}`) || null,
    createdAtMs: actor.createdAtMs,
  };
}

const groupView = (group: GroupRecord, whyWaits: WhyWaits): PlacementGroupView => ({
  groupId: group.groupId,
  name: group.name,
  namespace: group.namespace,
  state: groupStateName(group),
  strategy: group.strategy,
  topologyDomain: group.domain || null,
  jobId: group.jobId,
  isDetached: group.isDetached,
  bundles: group.bundles.map(({ needs }, index) => ({ resources: needs, ...group.places[index]! })),
  reason: whyWaits(`group:${group.groupId}`) || null,
  createdAtMs: group.createdAtMs,
});

export function jobView(cluster: Cluster, job: JobRecord, whyWaits = waitReasons(cluster.state)): JobView {
  const { package: sha256, envVars } = job.runtimeEnv;
  return {
    type: job.type,
    job_id: job.jobId,
    submission_id: job.type === 'SUBMISSION' ? job.jobId : null,
    status: job.status,
    entrypoint: job.entrypoint,
    message: job.message || whyWaits(`job:${job.jobId}`),
    start_time: job.startedAtMs,
    end_time: job.endedAtMs,
    submit_time: job.submittedAtMs,
    metadata: job.metadata,
    runtime_env: {
      ...(sha256 === '' ? {} : { working_dir: `package:${sha256}` }),
      env_vars: Object.fromEntries(Object.keys(envVars).map((name) => [name, HIDDEN])),
    },
    driver_node_id: job.nodeId,
    driver_exit_code: job.exitCode,
    log_bytes: job.type === 'SUBMISSION' ? cluster.logs.bytesOf(job.jobId) : 0,
  };
}

export const runView = (run: RunRecord): RunView => ({
  latest: run.latest,
  startedAtMs: run.startedAtMs,
  updatedAtMs: run.updatedAtMs,
});

export function clusterView(cluster: Cluster, headAddress: string, whyWaits = waitReasons(cluster.state)): ClusterView {
  const { state } = cluster;
  const live = [...state.nodes.values()].filter((node) => node.status === 'connected');
  const total = live.reduce<Resources>((sum, node) => addResources(sum, node.total), {});
  const used = live.reduce<Resources>((sum, node) => addResources(sum, node.used), subtractResources(total, total));
  return {
    clusterId: cluster.id,
    version: RAYLITE_VERSION,
    headAddress,
    total,
    used,
    nodeCount: live.length,
    pending: [...state.pending.keys()].slice(0, SNAPSHOT_ROWS_MAX).map((key) => pendingView(state, key, whyWaits)),
    pendingCount: state.pending.size,
  };
}

function pendingView(state: ClusterState, key: PendingKey, whyWaits: WhyWaits): ClusterView['pending'][number] {
  const { kind, id } = split(key);
  const reason = whyWaits(key);
  if (kind === 'group') return { kind: 'placement group', what: state.groups.get(id as GroupId)?.name || id, reason };
  if (kind === 'actor') return { kind, what: state.actors.get(id as ActorId)?.className ?? id, reason };
  if (kind === 'lease') return { kind: 'task', what: state.leases.get(id as LeaseId)?.jobId ?? id, reason };
  return { kind, what: id, reason };
}

/** One view after the other, each reason looked into once. */
function viewWith<Record, View>(
  cluster: Cluster,
  view: (record: Record, whyWaits: WhyWaits) => View,
): (record: Record) => View {
  const whyWaits = waitReasons(cluster.state);
  return (record) => view(record, whyWaits);
}

const newestFirst = <T>(records: Iterable<T>): T[] => [...records].reverse();

export const nodesView = (cluster: Cluster): readonly NodeView[] => [...cluster.state.nodes.values()].map(nodeView);
export const actorsView = (cluster: Cluster): readonly ActorView[] =>
  newestFirst(cluster.state.actors.values()).map(viewWith(cluster, actorView));
export const groupsView = (cluster: Cluster): readonly PlacementGroupView[] =>
  newestFirst(cluster.state.groups.values()).map(viewWith(cluster, groupView));
export const jobsView = (cluster: Cluster): readonly JobView[] =>
  newestFirst(cluster.state.jobs.values()).map((job) => jobView(cluster, job));

/** What the page shows at once. */
export function snapshot(cluster: Cluster, headAddress: string): Snapshot {
  const { state } = cluster;
  const whyWaits = waitReasons(state);
  return {
    cluster: clusterView(cluster, headAddress, whyWaits),
    nodes: nodesView(cluster),
    actors: newestFirst(state.actors.values())
      .slice(0, SNAPSHOT_ROWS_MAX)
      .map((actor) => actorView(actor, whyWaits)),
    jobs: newestFirst(state.jobs.values())
      .slice(0, SNAPSHOT_ROWS_MAX)
      .map((job) => jobView(cluster, job, whyWaits)),
    runs: cluster.runs.list().slice(0, SNAPSHOT_ROWS_MAX).map(runView),
  };
}
