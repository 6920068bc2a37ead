// Places what waits: walks the pending work in order of arrival and gives each what fits now.
import {
  type ActorId,
  addResources,
  type GroupId,
  InfeasibleError,
  type JobId,
  type LeaseId,
  type NodeId,
  PlacementGroupRemovedError,
  type Resources,
  subtractResources,
} from '../common/index.js';
import type {
  BundlePlace,
  ClusterState,
  Effect,
  GroupRecord,
  PendingKey,
  Place,
  WorkerRecord,
} from './cluster-state.js';
import { type Candidate, type Demand, type Placement, place } from './scheduler/place.js';
import { type GroupDemand, placeBundles } from './scheduler/place-bundles.js';
import { type BundleChoice, placeInBundle } from './scheduler/place-in-bundle.js';

/** The nodes that may hold work now (connected) or soon (away), in order of joining. `isAlike`: which workers SPREAD counts. */
export function candidatesOf(
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

/**
 * An error if no node of the cluster could ever hold `demand`, unless it is to wait for one; with no node at all, work
 * waits. What asks for more than its placement group has is refused in any case: a group never grows.
 */
export function infeasible(
  state: ClusterState,
  what: string,
  demand: Demand,
  waits: boolean,
): InfeasibleError | PlacementGroupRemovedError | null {
  const groupId = demand.bundle?.groupId as GroupId | undefined;
  if (groupId !== undefined && !state.groups.has(groupId)) return new PlacementGroupRemovedError({ groupId });
  if (waits && groupId === undefined) return null;
  const placement = choose(state, demand, () => candidatesOf(state));
  return placement.kind === 'infeasible' ? new InfeasibleError({ detail: `${what} ${placement.reason}` }) : null;
}

/** A node, or the bundle that the demand names or one of its group. */
function choose(state: ClusterState, demand: Demand, candidates: () => readonly Candidate[]): Placement | BundleChoice {
  if (demand.bundle === undefined) return place(demand, candidates());
  const group = state.groups.get(demand.bundle.groupId as GroupId);
  if (!group) return { kind: 'wait', reason: `its placement group ${demand.bundle.groupId} was removed` };
  const rooms = group.places.map(({ nodeId, used }, index) => ({
    needs: group.bundles[index]!.needs,
    used,
    nodeId,
    isConnected: nodeId !== null && state.nodes.get(nodeId)?.status === 'connected',
  }));
  return placeInBundle(demand.needs, demand.bundle, rooms);
}

/** What is still to be found for a group. */
export const groupDemand = ({ strategy, domain, bundles, places }: GroupRecord): GroupDemand => ({
  strategy,
  domain,
  bundles: bundles.map((bundle, index) => ({ ...bundle, nodeId: places[index]!.nodeId })),
});

const placeOf = (demand: Demand, choice: Placement | BundleChoice): Place | null => {
  if (choice.kind === 'node') return { nodeId: choice.nodeId };
  if (choice.kind !== 'bundle') return null;
  return { nodeId: choice.nodeId, bundle: { groupId: demand.bundle!.groupId as GroupId, index: choice.index } };
};

/** Gives free room to pending work. Equal demands that did not fit are tried once a pass. */
export function schedule(state: ClusterState): readonly Effect[] {
  if (state.pending.size === 0) return [];
  const effects: Effect[] = [];
  const failed = new Map<string, string>();
  let candidates = candidatesOf(state);
  for (const key of inOrder(state)) {
    const group = groupOf(state, key);
    if (group) {
      effects.push(...reserve(state, group, candidates));
      if (group.phase.kind === 'created') candidates = candidatesOf(state);
      continue;
    }
    const demand = demandOf(state, key);
    if (demand === null) {
      state.pending.delete(key);
      continue;
    }
    const shape = JSON.stringify([demand.needs, demand.selector, demand.fallbacks, demand.strategy, demand.bundle]);
    const known = failed.get(shape);
    const choices = () => (demand.strategy === 'SPREAD' ? candidatesOf(state, alikeTo(state, key)) : candidates);
    const placement: Placement | BundleChoice =
      known === undefined ? choose(state, demand, choices) : { kind: 'wait', reason: known };
    if (placement.kind === 'node' || placement.kind === 'bundle') {
      state.pending.delete(key);
      effects.push(...start(state, key, placeOf(demand, placement)!));
      if (placement.kind === 'node') candidates = candidatesOf(state);
    } else {
      // What was feasible when it was accepted may not be after a node was lost: it waits for another to join.
      failed.set(shape, placement.reason);
      setReason(state, key, placement.reason);
    }
  }
  return effects;
}

/** Sets all missing bundles of a group aside, or none. */
function reserve(state: ClusterState, group: GroupRecord, candidates: readonly Candidate[]): readonly Effect[] {
  const placement = placeBundles(groupDemand(group), candidates);
  if (placement.kind !== 'nodes') {
    if (group.phase.kind !== 'created') group.phase.reason = placement.reason;
    return [];
  }
  for (const [index, nodeId] of placement.nodeIds.entries()) {
    const place = group.places[index]!;
    if (place.nodeId !== null) continue;
    place.nodeId = nodeId;
    hold(state, { nodeId }, group.bundles[index]!.needs);
  }
  const { groupId, waiters } = group;
  group.phase = { kind: 'created' };
  group.waiters = [];
  state.pending.delete(`group:${groupId}`);
  return [
    { kind: 'save', table: 'group', id: groupId },
    ...waiters.map((request): Effect => ({ kind: 'answer', request, answer: { kind: 'group', groupId } })),
  ];
}

const groupOf = (state: ClusterState, key: PendingKey): GroupRecord | undefined =>
  key.startsWith('group:') ? state.groups.get(key.slice('group:'.length) as GroupId) : undefined;

/** What waits: placement groups, since others wait for them, then by priority, then in order of arrival. */
function inOrder(state: ClusterState): readonly PendingKey[] {
  const keys = [...state.pending];
  const priorities = new Map(keys.map((key) => [key, priorityOf(state, key)]));
  if ([...priorities.values()].every((priority) => priority === 0)) return keys;
  return keys.sort((a, b) => priorities.get(b)! - priorities.get(a)!);
}

function priorityOf(state: ClusterState, key: PendingKey): number {
  const { kind, id } = split(key);
  if (kind === 'group') return Number.MAX_SAFE_INTEGER;
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

function setBundle(record: { bundle?: BundlePlace }, { bundle }: Place): void {
  if (bundle) record.bundle = bundle;
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

function start(state: ClusterState, key: PendingKey, place: Place): readonly Effect[] {
  const { nodeId } = place;
  const { kind, id } = split(key);
  if (kind === 'actor') {
    const actor = state.actors.get(id as ActorId)!;
    const workerId = state.newWorkerId();
    hold(state, place, actor.holds);
    setBundle(actor, place);
    state.workers.set(workerId, {
      ...place,
      workerId,
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
    hold(state, place, lease.demand.needs);
    setBundle(lease, place);
    state.workers.set(workerId, {
      ...place,
      workerId,
      holds: lease.demand.needs,
      purpose: { kind: 'lease', leaseId: lease.leaseId },
    });
    lease.phase = { kind: 'starting', nodeId, workerId, request };
    return [{ kind: 'startWorker', nodeId, workerId, incarnation: 0 }];
  }
  const job = state.jobs.get(id as JobId)!;
  hold(state, place, job.demand.needs);
  job.status = 'RUNNING';
  job.message = '';
  job.nodeId = nodeId;
  return [
    { kind: 'save', table: 'job', id },
    { kind: 'startJob', nodeId, jobId: job.jobId },
    { kind: 'jobChanged', jobId: job.jobId },
  ];
}

export function hold(state: ClusterState, place: Place, amounts: Resources): void {
  const holder = holderOf(state, place);
  if (holder) holder.used = addResources(holder.used, amounts);
}

export function release(state: ClusterState, place: Place, amounts: Resources): void {
  const holder = holderOf(state, place);
  if (holder) holder.used = subtractResources(holder.used, amounts);
}

const holderOf = (state: ClusterState, { nodeId, bundle }: Place): { used: Resources } | undefined =>
  bundle ? state.groups.get(bundle.groupId)?.places[bundle.index] : state.nodes.get(nodeId);
