// Puts records into the tables of the cluster's state and takes them out, together with what finds them by their owner,
// node or placement group, and counts what workers hold: no rule looks through a whole table.
import {
  addResources,
  type GroupId,
  type NodeId,
  type Resources,
  subtractResources,
  type WorkerId,
} from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type {
  ActorRecord,
  BundleRecord,
  GroupRecord,
  LeaseRecord,
  NodeRecord,
  Place,
  WorkerRecord,
} from './entities.js';
import { holdGpus, releaseGpus } from './scheduler/gpu-room.js';

export function setNode(state: ClusterState, node: NodeRecord): void {
  state.nodes.set(node.nodeId, node);
  if (node.status === 'dead') return;
  state.index.set(node);
  state.pending.roomGained(node.nodeId);
}

/** It is dead or away: nothing is placed there. */
export function closeNode(state: ClusterState, node: NodeRecord, status: 'away' | 'dead'): void {
  node.status = status;
  if (status === 'dead') state.index.delete(node.nodeId);
  else state.index.touch(node.nodeId);
}

export function addActor(state: ClusterState, actor: ActorRecord): void {
  state.actors.set(actor.actorId, actor);
  if (actor.phase.kind === 'dead') {
    state.endedActors.add(actor.actorId);
    return;
  }
  if (actor.name !== '') state.names.set(nameKey(actor), actor.actorId);
  state.actorsOf.add(actor.ownerId, actor.actorId);
  state.actorsOfJob.add(actor.jobId, actor.actorId);
  const groupId = groupOf(actor);
  if (groupId) state.actorsIn.add(groupId, actor.actorId);
}

/** It is dead: only its record stays, until `ENDED_ACTORS_MAX` others are too. */
export function buryActor(state: ClusterState, actor: ActorRecord): void {
  if (actor.name !== '' && state.names.get(nameKey(actor)) === actor.actorId) state.names.delete(nameKey(actor));
  state.actorsOf.delete(actor.ownerId, actor.actorId);
  state.actorsOfJob.delete(actor.jobId, actor.actorId);
  const groupId = groupOf(actor);
  if (groupId) state.actorsIn.delete(groupId, actor.actorId);
  state.endedActors.add(actor.actorId);
}

export function addLease(state: ClusterState, lease: LeaseRecord): void {
  state.leases.set(lease.leaseId, lease);
  state.leasesOf.add(lease.ownerId, lease.leaseId);
  const groupId = groupOf(lease);
  if (groupId) state.leasesIn.add(groupId, lease.leaseId);
}

export function deleteLease(state: ClusterState, lease: LeaseRecord): void {
  state.leases.delete(lease.leaseId);
  state.leasesOf.delete(lease.ownerId, lease.leaseId);
  if (!state.leasesOf.has(lease.ownerId)) state.untold.delete(lease.ownerId);
  const groupId = groupOf(lease);
  if (groupId) state.leasesIn.delete(groupId, lease.leaseId);
}

export function addGroup(state: ClusterState, group: GroupRecord): void {
  state.groups.set(group.groupId, group);
  state.groupsOf.add(group.ownerId, group.groupId);
}

export function deleteGroup(state: ClusterState, group: GroupRecord): void {
  state.groups.delete(group.groupId);
  state.groupsOf.delete(group.ownerId, group.groupId);
}

/** A worker begins, and holds what it is to hold. */
export function addWorker(
  state: ClusterState,
  { nodeId, bundle, gpus }: Place,
  workerId: WorkerId,
  holds: Resources,
  purpose: NonNullable<WorkerRecord['purpose']>,
): void {
  const actor = purpose.kind === 'actor' ? state.actors.get(purpose.actorId) : undefined;
  const alike = actor ? alikeActors(actor) : ALIKE_TASKS;
  const worker: WorkerRecord = { workerId, nodeId, holds, alike, purpose, ...(gpus && { gpus }) };
  if (bundle) worker.bundle = bundle;
  state.workers.set(workerId, worker);
  state.workersAt.add(nodeId, workerId);
  if (bundle) state.workersIn.add(bundle.groupId, workerId);
  state.index.countAlike(alike, nodeId, 1);
  hold(state, worker, holds);
}

/** Nobody waits for it any more; it holds what it holds until it is gone. */
export function retireWorker(state: ClusterState, worker: WorkerRecord): void {
  worker.purpose = null;
  if (worker.alike !== null) state.index.countAlike(worker.alike, worker.nodeId, -1);
  worker.alike = null;
}

export function deleteWorker(state: ClusterState, worker: WorkerRecord): void {
  retireWorker(state, worker);
  state.workers.delete(worker.workerId);
  state.workersAt.delete(worker.nodeId, worker.workerId);
  if (worker.bundle) state.workersIn.delete(worker.bundle.groupId, worker.workerId);
  release(state, worker, worker.holds);
}

/** What SPREAD spreads: actors of one class of one job among themselves, tasks among tasks. What is ending does not count. */
export const ALIKE_TASKS = 'tasks';
export const alikeActors = ({ jobId, className }: ActorRecord): string => `${jobId}/${className}`;

export function hold(state: ClusterState, place: Place, amounts: Resources): void {
  const holder = holderOf(state, place);
  if (!holder) return;
  holder.used = addResources(holder.used, amounts);
  holder.gpus = holdGpus(holder.gpus, place.gpus ?? [], amounts);
  if (!place.bundle) state.index.touch(place.nodeId);
}

export function release(state: ClusterState, place: Place, amounts: Resources): void {
  const holder = holderOf(state, place);
  if (!holder) return;
  holder.used = subtractResources(holder.used, amounts);
  holder.gpus = releaseGpus(holder.gpus, place.gpus ?? [], amounts);
  if (!place.bundle) state.index.touch(place.nodeId);
  state.pending.roomGained(place.nodeId);
}

/** The node or the bundle. */
export const holderOf = (state: ClusterState, { nodeId, bundle }: Place): NodeRecord | BundleRecord | undefined =>
  bundle ? state.groups.get(bundle.groupId)?.places[bundle.index] : state.nodes.get(nodeId);

/** Where a record says that it is. */
export const placeOf = (nodeId: NodeId, { bundle, gpus }: Omit<Place, 'nodeId'>): Place => ({
  nodeId,
  ...(bundle && { bundle }),
  ...(gpus && { gpus }),
});

export const nameKey = (actor: { readonly namespace: string; readonly name: string }): string =>
  `${actor.namespace}/${actor.name}`;

const groupOf = ({ demand }: ActorRecord | LeaseRecord): GroupId | undefined =>
  demand.bundle?.groupId as GroupId | undefined;

export const workersAt = (state: ClusterState, nodeId: NodeId): readonly WorkerRecord[] =>
  state.workersAt.of(nodeId).map((workerId) => state.workers.get(workerId)!);
