// Places what waits: gives the most urgent of each line what fits now.
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
} from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { Address, BundlePlace, GroupRecord, LeaseRecord, Place } from './entities.js';
import { endUnwanted, takeIdle, tellHolders, termsOf } from './handover.js';
import type { PendingKey } from './pending-queue.js';
import { explainInfeasible, explainWait } from './scheduler/explain.js';
import { explainGroupWait } from './scheduler/explain-group.js';
import { chooseGpus, type GpuRoom, gpuRoomOf, soundGpus } from './scheduler/gpu-room.js';
import { type Demand, demandFor, type PlacedBy, takesWork } from './scheduler/place.js';
import { type GroupDemand, mayHoldSome, placeBundles } from './scheduler/place-bundles.js';
import { type BundleChoice, type BundleWish, placeInBundle } from './scheduler/place-in-bundle.js';
import { ALIKE_TASKS, addWorker, alikeActors, hold, holderOf, placeOf } from './tables.js';
import { demandOf, split } from './waiting.js';

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
  if (demand.bundle !== undefined) {
    const choice = chooseBundle(state, demand.needs, demand.bundle);
    return choice.kind === 'infeasible' ? new InfeasibleError({ detail: `${what} ${choice.reason}` }) : null;
  }
  if (state.index.place(demand, ALIKE_TASKS).kind !== 'infeasible') return null;
  return new InfeasibleError({ detail: `${what} ${explainInfeasible(demand, state.index.nodes())}` });
}

/** The bundle that `wish` names, or one of its group. */
function chooseBundle(state: ClusterState, needs: Resources, wish: BundleWish): BundleChoice {
  const group = state.groups.get(wish.groupId as GroupId);
  if (!group) return { kind: 'wait', reason: `its placement group ${wish.groupId} was removed` };
  const rooms = group.places.map(({ nodeId, used, gpus }, index) => ({
    needs: group.bundles[index]!.needs,
    used,
    gpus: soundIn(state, nodeId, gpus),
    nodeId,
    isConnected: nodeId !== null && takesWork(state.nodes.get(nodeId)!),
  }));
  return placeInBundle(needs, wish, rooms);
}

/** The GPUs of a bundle whose node does not say that they are broken. */
const soundIn = (state: ClusterState, nodeId: NodeId | null, gpus: GpuRoom): GpuRoom =>
  nodeId === null ? gpus : soundGpus(gpus, state.nodes.get(nodeId)?.gpus ?? []);

/** The devices for what has room at `place`. */
function gpusAt(state: ClusterState, place: Place, amounts: Resources): { readonly gpus?: readonly number[] } {
  if (!amounts.GPU) return {};
  return { gpus: chooseGpus(amounts, soundIn(state, place.nodeId, holderOf(state, place)!.gpus))! };
}

/** What is still to be found for a group. */
export const groupDemand = ({ strategy, domain, bundles, places }: GroupRecord): GroupDemand => ({
  strategy,
  domain,
  bundles: bundles.map((bundle, index) => ({ ...bundle, nodeId: places[index]!.nodeId })),
});

/** Puts something in line; {@link schedule} places it. */
export function wait(state: ClusterState, key: PendingKey): void {
  const { kind, id } = split(key);
  if (kind === 'group') {
    // Before what waits for it.
    const group = state.groups.get(id as GroupId)!;
    state.pending.add(key, JSON.stringify(groupDemand(group)), { priority: Number.MAX_SAFE_INTEGER, depth: 0 }, '');
    return;
  }
  const lease = kind === 'lease' ? state.leases.get(id as LeaseId)! : null;
  const urgency = lease ? { priority: lease.priority, depth: depthOf(state, lease) } : { priority: 0, depth: 0 };
  state.pending.add(key, demandOf(state, key)!.shape, urgency, lease ? termsOf(lease) : '');
}

/** Two workers that call each other's tasks again and again are not deeper than this. */
const DEPTH_MAX = 100;

/** How many tasks are above those of a lease, each having called the next. Actors and drivers begin anew. */
function depthOf(state: ClusterState, lease: LeaseRecord): number {
  let caller = state.workers.get(lease.ownerId);
  let depth = 0;
  while (caller?.purpose?.kind === 'lease' && depth < DEPTH_MAX) {
    depth += 1;
    caller = state.workers.get(state.leases.get(caller.purpose.leaseId)!.ownerId);
  }
  return depth;
}

/** Gives free room to what waits. */
export function schedule(state: ClusterState): readonly Effect[] {
  const effects: Effect[] = [];
  // A group that was created is room for others.
  while (state.pending.mayFit) {
    state.pending.drain((key, gained) => {
      const started = tryToStart(state, key, gained);
      if (started === null) return 'no room';
      state.pending.delete(key);
      effects.push(...started);
      return 'placed';
    });
  }
  return [...endUnwanted(state), ...effects, ...tellHolders(state)];
}

/** Null: it does not fit now. */
function tryToStart(state: ClusterState, key: PendingKey, gained: readonly NodeId[] | null): readonly Effect[] | null {
  const { kind, id } = split(key);
  if (kind === 'group') return reserve(state, state.groups.get(id as GroupId)!, gained);
  const demand = demandOf(state, key);
  if (demand === null) return [];
  if (demand.bundle === undefined) {
    const placement = state.index.place(demand, alikeTo(state, key));
    return placement.kind === 'node' ? start(state, key, { nodeId: placement.nodeId }, placement.by) : null;
  }
  const choice = chooseBundle(state, demand.needs, demand.bundle);
  if (choice.kind !== 'bundle') return null;
  const bundle = { groupId: demand.bundle.groupId as GroupId, index: choice.index };
  return start(state, key, { nodeId: choice.nodeId, bundle }, 'bundle');
}

/**
 * Whether each missing bundle has room somewhere; where all are to be on one node, also all together, their GPUs left out. The rankings
 * know it without a look at all nodes.
 */
function mayFit(state: ClusterState, { bundles, strategy }: GroupDemand): boolean {
  const hasRoom = (needs: Resources, selector: Readonly<Record<string, string>>): boolean => {
    const demand = demandFor({ needs, selector, strategy: 'DEFAULT', locality: [] });
    return state.index.place(demand, ALIKE_TASKS).kind === 'node';
  };
  const missing = bundles.filter(({ nodeId }) => nodeId === null);
  if (!missing.every(({ needs, selector }) => hasRoom(needs, selector))) return false;
  if (strategy !== 'STRICT_PACK' || missing.length === 1) return true;
  const { GPU, ...sum } = missing.reduce<Resources>((all, { needs }) => addResources(all, needs), {});
  return hasRoom(sum, {});
}

/** Sets all missing bundles of a group aside, or none. */
function reserve(state: ClusterState, group: GroupRecord, gained: readonly NodeId[] | null): readonly Effect[] | null {
  const demand = groupDemand(group);
  if (!mayFit(state, demand)) return null;
  // An arrangement that was not there before has a bundle where room was gained.
  const nodes = gained?.flatMap((nodeId) => state.index.node(nodeId) ?? []);
  if (nodes && !mayHoldSome(demand, nodes)) return null;
  const found = placeBundles(demand, state.index.nodes());
  if (found === null) return null;
  for (const [index, { nodeId, gpus }] of found) {
    const { needs } = group.bundles[index]!;
    group.places[index] = { nodeId, used: {}, gpus: gpuRoomOf(gpus, needs) };
    hold(state, { nodeId, gpus }, needs);
  }
  const { groupId, waiters } = group;
  group.phase = { kind: 'created' };
  group.waiters = [];
  for (const nodeId of new Set([...found.values()].map((place) => place.nodeId))) state.pending.roomGained(nodeId);
  return [
    { kind: 'save', table: 'group', id: groupId },
    ...waiters.map((request): Effect => ({ kind: 'answer', request, answer: { kind: 'group', groupId } })),
  ];
}

/** Why something waits, from what the nodes have now; '' where it does not wait. */
export const waitReason = (state: ClusterState, key: PendingKey): string => waitReasons(state)(key);

/** As {@link waitReason}, for many: what is equal is looked into once. */
export function waitReasons(state: ClusterState): (key: PendingKey) => string {
  const known = new Map<string, string>();
  return (key) => {
    const shape = state.pending.shapeOf(key);
    if (shape === undefined) return '';
    const reason = known.get(shape) ?? reasonOf(state, key);
    known.set(shape, reason);
    return reason;
  };
}

function reasonOf(state: ClusterState, key: PendingKey): string {
  const { kind, id } = split(key);
  const nodes = state.index.nodes();
  if (kind === 'group') return explainGroupWait(groupDemand(state.groups.get(id as GroupId)!), nodes);
  const demand = demandOf(state, key)!;
  if (demand.bundle === undefined) return explainWait(demand, nodes);
  const choice = chooseBundle(state, demand.needs, demand.bundle);
  return choice.kind === 'bundle' ? 'is about to be placed' : choice.reason;
}

function alikeTo(state: ClusterState, key: PendingKey): string {
  const { kind, id } = split(key);
  return kind === 'actor' ? alikeActors(state.actors.get(id as ActorId)!) : ALIKE_TASKS;
}

function start(state: ClusterState, key: PendingKey, at: Place, by: PlacedBy): readonly Effect[] {
  const { nodeId } = at;
  const { kind, id } = split(key);
  if (kind === 'actor') {
    const actor = state.actors.get(id as ActorId)!;
    const workerId = state.newWorkerId();
    const place = { ...at, ...gpusAt(state, at, actor.holds) };
    markPlaced(actor, place, by);
    addWorker(state, place, workerId, actor.holds, { kind: 'actor', actorId: actor.actorId });
    actor.phase = { kind: 'starting', nodeId, workerId };
    return [
      { kind: 'save', table: 'actor', id },
      { kind: 'startWorker', nodeId, workerId, incarnation: actor.incarnation },
      { kind: 'actorChanged', actorId: actor.actorId },
    ];
  }
  if (kind === 'lease') {
    const lease = state.leases.get(id as LeaseId)!;
    const idle = takeIdle(state, lease, at);
    const place = idle ? placeOf(nodeId, idle) : { ...at, ...gpusAt(state, at, lease.demand.needs) };
    const workerId = idle?.workerId ?? state.newWorkerId();
    const request = lease.phase.kind === 'pending' ? lease.phase.request : null;
    markPlaced(lease, place, by);
    addWorker(state, place, workerId, lease.demand.needs, { kind: 'lease', leaseId: lease.leaseId });
    lease.phase = { kind: 'starting', nodeId, workerId, request };
    if (idle) return grantLease(state, lease, idle.address);
    return [{ kind: 'startWorker', nodeId, workerId, incarnation: 0 }];
  }
  const job = state.jobs.get(id as JobId)!;
  const place = { ...at, ...gpusAt(state, at, job.demand.needs) };
  hold(state, place, job.demand.needs);
  markPlaced(job, place, by);
  job.status = 'RUNNING';
  job.nodeId = nodeId;
  return [
    { kind: 'save', table: 'job', id },
    { kind: 'startJob', nodeId, jobId: job.jobId },
    { kind: 'jobChanged', jobId: job.jobId },
  ];
}

/** The worker of a lease serves calls. */
export function grantLease(state: ClusterState, lease: LeaseRecord, address: Address): readonly Effect[] {
  if (lease.phase.kind !== 'starting') return [];
  const { leaseId, ownerId } = lease;
  const { nodeId, workerId, request } = lease.phase;
  lease.phase = { kind: 'granted', nodeId, workerId, address };
  state.untold.add(ownerId);
  return [
    { kind: 'save', table: 'lease', id: leaseId },
    { kind: 'answer', request, answer: { kind: 'lease', leaseId, address } },
  ];
}

function markPlaced(
  record: { bundle?: BundlePlace; gpus?: readonly number[]; placedBy?: PlacedBy },
  { bundle, gpus }: Place,
  by: PlacedBy,
): void {
  if (bundle) record.bundle = bundle;
  if (gpus) record.gpus = gpus;
  record.placedBy = by;
}
