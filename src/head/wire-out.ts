// What the head says on the wire, built from its records.
import { ActorDiedError, ConfigError } from '../common/index.js';
import { failureOf, wire } from '../protocol/index.js';
import { actorStateName } from './actor-state.js';
import type { ClusterState } from './cluster-state.js';
import { drainingNodes } from './drain-state.js';
import type { ActorRecord, BundlePlace, GroupRecord, JobRecord, NodeRecord, Place, WorkerRecord } from './entities.js';
import { groupStateName } from './group-state.js';
import { waitReason } from './schedule.js';
import { availableOf } from './scheduler/place.js';

/** An actor as clients see it; of a dead one, the failure that its callers get. */
export function actorOut(state: ClusterState, actor: ActorRecord): wire.ActorInfo.$Properties {
  const { phase } = actor;
  return {
    actorId: actor.actorId,
    state: actorStateName(actor),
    incarnation: actor.incarnation,
    className: actor.className,
    name: actor.name,
    code: actor.code,
    handle: actor.handle,
    pendingReason: waitReason(state, `actor:${actor.actorId}`),
    ...(phase.kind === 'alive' ? { address: phase.address } : {}),
    ...(phase.kind === 'dead' ? { death: deathOut(actor, phase.death) } : {}),
  };
}

function deathOut(
  actor: ActorRecord,
  death: { readonly detail: string; readonly lastLogLines: readonly string[]; readonly cause: Uint8Array | null },
): wire.Failure.$Properties {
  const { actorId, className } = actor;
  const failure = failureOf(
    new ActorDiedError({ actorId, className, detail: death.detail, lastLogLines: death.lastLogLines }),
  );
  return death.cause === null ? failure : { ...failure, cause: wire.Failure.decode(death.cause) };
}

export function nodeOut(node: NodeRecord): wire.NodeInfo.$Properties {
  return {
    nodeId: node.nodeId,
    host: node.host,
    hostname: node.hostname,
    state: nodeStateName(node),
    total: { amounts: node.total },
    available: { amounts: availableOf(node) },
    labels: node.labels,
    transfer: node.transfer,
    joinedMs: node.joinedAtMs,
    isHead: node.isHead,
    uds: node.uds,
    ...(node.beat ? { beat: { ...node.beat, workers: [], gpus: [...node.beat.gpus] } } : {}), // who asks for nodes wants no list of processes
  };
}

export type NodeStateName = 'ALIVE' | 'DRAINING' | 'AWAY' | 'DEAD';
export const nodeStateName = ({ status, drain }: NodeRecord): NodeStateName =>
  status === 'connected' ? (drain ? 'DRAINING' : 'ALIVE') : status === 'away' ? 'AWAY' : 'DEAD';

/** Which nodes are to leave, and when; times are from `nowMs` on, since clocks differ. */
export const drainingOut = (state: ClusterState, nowMs: number): wire.HeadToClient.$Properties => ({
  requestId: 0,
  nodesDraining: {
    nodes: drainingNodes(state).map(({ nodeId, drain: { reason, message, deadlineAtMs } }) => ({
      nodeId,
      drain: { reason, message, ...(deadlineAtMs !== null && { remainingMs: Math.max(0, deadlineAtMs - nowMs) }) },
    })),
  },
});

/** The order to start a worker for what it is meant to serve, or null if that is gone meanwhile. */
export function startWorkerOut(
  state: ClusterState,
  worker: WorkerRecord,
  incarnation: number,
): wire.StartWorker.$Properties | null {
  if (worker.purpose?.kind === 'actor') {
    const actor = state.actors.get(worker.purpose.actorId);
    if (!actor) return null;
    const spec = wire.ActorSpec.decode(actor.payload);
    return {
      workerId: worker.workerId,
      resources: { amounts: worker.holds },
      runtimeEnv: spec.runtimeEnv,
      jobId: actor.jobId,
      actor: spec,
      incarnation,
      isRetriable: actor.maxRestarts === -1 || actor.restartCount < actor.maxRestarts,
      ...gpusOut(worker),
      ...bundleOut(worker.bundle, spec.bundle?.capturesChildren ?? false),
    };
  }
  const lease = worker.purpose ? state.leases.get(worker.purpose.leaseId) : undefined;
  if (!lease) return null;
  return {
    workerId: worker.workerId,
    resources: { amounts: worker.holds },
    runtimeEnv: lease.runtimeEnv,
    jobId: lease.jobId,
    leaseId: lease.leaseId,
    incarnation,
    isRetriable: lease.isRetriable,
    ...gpusOut(worker),
    ...bundleOut(worker.bundle, lease.capturesChildren),
  };
}

const gpusOut = ({ gpus }: Omit<Place, 'nodeId'>): { readonly gpus?: number[] } => (gpus ? { gpus: [...gpus] } : {});

const bundleOut = (
  bundle: BundlePlace | undefined,
  capturesChildren: boolean,
): { readonly bundle?: wire.BundleWish.$Properties } => (bundle ? { bundle: { ...bundle, capturesChildren } } : {});

export const groupOut = (state: ClusterState, group: GroupRecord): wire.GroupInfo.$Properties => ({
  groupId: group.groupId,
  state: groupStateName(group),
  name: group.name,
  strategy: group.strategy,
  bundles: group.bundles.map(({ needs }, index) => ({
    resources: { amounts: needs },
    nodeId: group.places[index]!.nodeId ?? '',
  })),
  reason: waitReason(state, `group:${group.groupId}`),
});

export const startJobOut = (job: JobRecord): wire.StartJob.$Properties => ({
  jobId: job.jobId,
  entrypoint: job.entrypoint,
  runtimeEnv: job.runtimeEnv,
  resources: { amounts: job.demand.needs },
  ...gpusOut(job),
});

/** The error of a look-up by name that finds no live actor. */
export const noSuchActor = (namespace: string, name: string): ConfigError =>
  new ConfigError('name', `the name of a live actor in namespace ${JSON.stringify(namespace)}`, name);
