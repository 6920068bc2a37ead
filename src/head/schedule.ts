// Places what waits: walks the pending work in order of arrival and gives each what fits now.
import {
  type ActorId,
  addResources,
  InfeasibleError,
  type JobId,
  type LeaseId,
  type NodeId,
  type Resources,
  subtractResources,
} from '../common/index.js';
import type { ClusterState, Effect, PendingKey, WorkerRecord } from './cluster-state.js';
import { type Candidate, type Demand, type Placement, place } from './scheduler/place.js';

/** The nodes that may hold work now (connected) or soon (away), in order of joining. `isAlike`: which workers SPREAD counts. */
function candidatesOf(
  state: ClusterState,
  isAlike: (purpose: WorkerRecord['purpose']) => boolean = () => false,
): readonly Candidate[] {
  const counts = new Map<NodeId, number>();
  for (const { nodeId, purpose } of state.workers.values())
    if (isAlike(purpose)) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  return [...state.nodes.values()]
    .filter((node) => node.status !== 'dead')
    .map((node) => ({
      nodeId: node.nodeId,
      hostname: node.hostname,
      isConnected: node.status === 'connected',
      total: node.total,
      used: node.used,
      labels: node.labels,
      alikeCount: counts.get(node.nodeId) ?? 0,
    }));
}

/** An error if no node of the cluster could ever hold `demand`; with no node at all, work waits. */
export function infeasible(state: ClusterState, what: string, demand: Demand): InfeasibleError | null {
  const placement = place(demand, candidatesOf(state));
  return placement.kind === 'infeasible' ? new InfeasibleError({ detail: `${what} ${placement.reason}` }) : null;
}

/** Gives free room to pending work. Equal demands that did not fit are tried once a pass. */
export function schedule(state: ClusterState): readonly Effect[] {
  if (state.pending.size === 0) return [];
  const effects: Effect[] = [];
  const failed = new Map<string, string>();
  let candidates = candidatesOf(state);
  for (const key of inOrder(state)) {
    const demand = demandOf(state, key);
    if (demand === null) {
      state.pending.delete(key);
      continue;
    }
    const shape = JSON.stringify([demand.needs, demand.selector, demand.strategy]);
    const known = failed.get(shape);
    const choices = () => (demand.strategy === 'SPREAD' ? candidatesOf(state, alikeTo(state, key)) : candidates);
    const placement: Placement = known === undefined ? place(demand, choices()) : { kind: 'wait', reason: known };
    if (placement.kind === 'node') {
      state.pending.delete(key);
      effects.push(...start(state, key, placement.nodeId));
      candidates = candidatesOf(state);
    } else {
      // What was feasible when it was accepted may not be after a node was lost: it waits for another to join.
      failed.set(shape, placement.reason);
      setReason(state, key, placement.reason);
    }
  }
  return effects;
}

/** What waits, by priority, then in order of arrival. */
function inOrder(state: ClusterState): readonly PendingKey[] {
  const keys = [...state.pending];
  const priorities = new Map(keys.map((key) => [key, priorityOf(state, key)]));
  if ([...priorities.values()].every((priority) => priority === 0)) return keys;
  return keys.sort((a, b) => priorities.get(b)! - priorities.get(a)!);
}

function priorityOf(state: ClusterState, key: PendingKey): number {
  const { kind, id } = split(key);
  return kind === 'lease' ? (state.leases.get(id as LeaseId)?.priority ?? 0) : 0;
}

function split(key: PendingKey): { readonly kind: string; readonly id: string } {
  const at = key.indexOf(':');
  return { kind: key.slice(0, at), id: key.slice(at + 1) };
}

function demandOf(state: ClusterState, key: PendingKey): Demand | null {
  const { kind, id } = split(key);
  if (kind === 'actor') return state.actors.get(id as ActorId)?.demand ?? null;
  if (kind === 'lease') return state.leases.get(id as LeaseId)?.demand ?? null;
  return state.jobs.get(id as JobId)?.demand ?? null;
}

/** What SPREAD spreads: actors of one class of one job among themselves, tasks among tasks. What is ending does not count. */
function alikeTo(state: ClusterState, key: PendingKey): (purpose: WorkerRecord['purpose']) => boolean {
  const { kind, id } = split(key);
  const actor = kind === 'actor' ? state.actors.get(id as ActorId) : undefined;
  if (!actor) return (purpose) => purpose?.kind === 'lease';
  return (purpose) => {
    const other = purpose?.kind === 'actor' ? state.actors.get(purpose.actorId) : undefined;
    return other !== undefined && other.className === actor.className && other.jobId === actor.jobId;
  };
}

function setReason(state: ClusterState, key: PendingKey, reason: string): void {
  const { kind, id } = split(key);
  if (kind === 'job') {
    const job = state.jobs.get(id as JobId);
    if (job) job.message = reason;
    return;
  }
  const phase = (kind === 'actor' ? state.actors.get(id as ActorId) : state.leases.get(id as LeaseId))?.phase;
  if (phase?.kind === 'pending') phase.reason = reason;
}

function start(state: ClusterState, key: PendingKey, nodeId: NodeId): readonly Effect[] {
  const { kind, id } = split(key);
  if (kind === 'actor') {
    const actor = state.actors.get(id as ActorId)!;
    const workerId = state.newWorkerId();
    hold(state, nodeId, actor.holds);
    state.workers.set(workerId, {
      workerId,
      nodeId,
      holds: actor.holds,
      purpose: { kind: 'actor', actorId: actor.actorId },
    });
    actor.phase = { kind: 'starting', nodeId, workerId };
    return [
      { kind: 'save', table: 'actor', id },
      { kind: 'startWorker', nodeId, workerId, incarnation: actor.incarnation },
      { kind: 'actorChanged', actorId: actor.actorId },
    ];
  }
  if (kind === 'lease') {
    const lease = state.leases.get(id as LeaseId)!;
    const workerId = state.newWorkerId();
    const request = lease.phase.kind === 'pending' ? lease.phase.request : null;
    hold(state, nodeId, lease.demand.needs);
    state.workers.set(workerId, {
      workerId,
      nodeId,
      holds: lease.demand.needs,
      purpose: { kind: 'lease', leaseId: lease.leaseId },
    });
    lease.phase = { kind: 'starting', nodeId, workerId, request };
    return [{ kind: 'startWorker', nodeId, workerId, incarnation: 0 }];
  }
  const job = state.jobs.get(id as JobId)!;
  hold(state, nodeId, job.demand.needs);
  job.status = 'RUNNING';
  job.message = '';
  job.nodeId = nodeId;
  return [
    { kind: 'save', table: 'job', id },
    { kind: 'startJob', nodeId, jobId: job.jobId },
    { kind: 'jobChanged', jobId: job.jobId },
  ];
}

export function hold(state: ClusterState, nodeId: NodeId, amounts: Resources): void {
  const node = state.nodes.get(nodeId);
  if (node) node.used = addResources(node.used, amounts);
}

export function release(state: ClusterState, nodeId: NodeId, amounts: Resources): void {
  const node = state.nodes.get(nodeId);
  if (node) node.used = subtractResources(node.used, amounts);
}
