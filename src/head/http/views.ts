// The cluster as JSON for the page, the command line and scripts. Jobs have Ray's field names. Values of environment
// variables never leave: only their names do.
import { addResources, RAYLITE_VERSION, type Resources, subtractResources } from '../../common/index.js';
import type { RunReport } from '../../observe/index.js';
import { actorStateName } from '../actor-state.js';
import type { Cluster } from '../cluster.js';
import type { ActorRecord, GroupRecord, JobRecord, NodeBeat, NodeRecord } from '../cluster-state.js';
import { groupStateName } from '../group-state.js';
import type { RunRecord } from '../runs.js';
import { nodeStateName } from '../wire-out.js';

export interface NodeView {
  readonly nodeId: string;
  readonly hostname: string;
  readonly host: string;
  readonly state: 'ALIVE' | 'AWAY' | 'DEAD';
  readonly stateReason: string | null;
  readonly isHead: boolean;
  readonly total: Resources;
  readonly used: Resources;
  readonly labels: Readonly<Record<string, string>>;
  readonly beat: NodeBeat | null;
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
  readonly pending: readonly { readonly kind: string; readonly what: string; readonly reason: string }[];
}

export interface Snapshot {
  readonly cluster: ClusterView;
  readonly nodes: readonly NodeView[];
  readonly actors: readonly ActorView[];
  readonly jobs: readonly JobView[];
  readonly runs: readonly RunView[];
}

const HIDDEN = '***';
/** Rows of a kind in one live snapshot, newest first. */
const SNAPSHOT_ROWS_MAX = 200;

export const nodeView = (node: NodeRecord): NodeView => ({
  nodeId: node.nodeId,
  hostname: node.hostname,
  host: node.host,
  state: nodeStateName(node),
  stateReason: node.endReason,
  isHead: node.isHead,
  total: node.total,
  used: node.used,
  labels: node.labels,
  beat: node.beat,
  joinedAtMs: node.joinedAtMs,
  endedAtMs: node.endedAtMs,
  version: node.version,
});

export function actorView(actor: ActorRecord): ActorView {
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
    reason: phase.kind === 'pending' ? phase.reason || null : phase.kind === 'dead' ? phase.death.detail : null,
    createdAtMs: actor.createdAtMs,
  };
}

export const groupView = (group: GroupRecord): PlacementGroupView => ({
  groupId: group.groupId,
  name: group.name,
  namespace: group.namespace,
  state: groupStateName(group),
  strategy: group.strategy,
  topologyDomain: group.domain || null,
  jobId: group.jobId,
  isDetached: group.isDetached,
  bundles: group.bundles.map(({ needs }, index) => ({ resources: needs, ...group.places[index]! })),
  reason: group.phase.kind === 'created' ? null : group.phase.reason || null,
  createdAtMs: group.createdAtMs,
});

export function jobView(cluster: Cluster, job: JobRecord): JobView {
  const { package: sha256, envVars } = job.runtimeEnv;
  return {
    type: job.type,
    job_id: job.jobId,
    submission_id: job.type === 'SUBMISSION' ? job.jobId : null,
    status: job.status,
    entrypoint: job.entrypoint,
    message: job.message,
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

export function clusterView(cluster: Cluster, headAddress: string): ClusterView {
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
    pending: [
      ...[...state.groups.values()].flatMap((group) =>
        group.phase.kind === 'created'
          ? []
          : [{ kind: 'placement group', what: group.name || group.groupId, reason: group.phase.reason }],
      ),
      ...[...state.actors.values()].flatMap((actor) =>
        actor.phase.kind === 'pending' ? [{ kind: 'actor', what: actor.className, reason: actor.phase.reason }] : [],
      ),
      ...[...state.leases.values()].flatMap((lease) =>
        lease.phase.kind === 'pending' ? [{ kind: 'task', what: lease.jobId, reason: lease.phase.reason }] : [],
      ),
      ...[...state.jobs.values()].flatMap((job) =>
        job.status === 'PENDING' ? [{ kind: 'job', what: job.jobId, reason: job.message }] : [],
      ),
    ],
  };
}

const newestFirst = <T>(records: Iterable<T>): T[] => [...records].reverse();

export const nodesView = (cluster: Cluster): readonly NodeView[] => [...cluster.state.nodes.values()].map(nodeView);
export const actorsView = (cluster: Cluster): readonly ActorView[] =>
  newestFirst(cluster.state.actors.values()).map(actorView);
export const groupsView = (cluster: Cluster): readonly PlacementGroupView[] =>
  newestFirst(cluster.state.groups.values()).map(groupView);
export const jobsView = (cluster: Cluster): readonly JobView[] =>
  newestFirst(cluster.state.jobs.values()).map((job) => jobView(cluster, job));

/** What the page shows at once. */
export const snapshot = (cluster: Cluster, headAddress: string): Snapshot => ({
  cluster: clusterView(cluster, headAddress),
  nodes: nodesView(cluster),
  actors: newestFirst(cluster.state.actors.values()).slice(0, SNAPSHOT_ROWS_MAX).map(actorView),
  jobs: newestFirst(cluster.state.jobs.values())
    .slice(0, SNAPSHOT_ROWS_MAX)
    .map((job) => jobView(cluster, job)),
  runs: cluster.runs.list().slice(0, SNAPSHOT_ROWS_MAX).map(runView),
});
