// The life of placement groups: resources set aside on nodes for actors and tasks that belong together.
//
//   (asked) ─createGroup→ pending ─schedule→ created ─loseBundles→ rescheduling ─schedule→ created
//   any ─removeGroup→ (gone)                        (asked for, or its creator or job ended)
//
// All bundles are set aside or none: the head alone counts what nodes have, so that one step of its rules is enough.
import {
  ConfigError,
  type GroupId,
  InfeasibleError,
  type NodeId,
  PlacementGroupRemovedError,
  type RayliteError,
  type WorkerId,
} from '../common/index.js';
import { endActor } from './actor-state.js';
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { GroupRecord, GroupRequest } from './entities.js';
import { groupDemand, schedule, wait } from './schedule.js';
import { explainGroupInfeasible } from './scheduler/explain-group.js';
import { devicesOf } from './scheduler/gpu-room.js';
import { mayEverHold } from './scheduler/place-bundles.js';
import { addGroup, deleteGroup, deleteLease, hold, release, retireWorker } from './tables.js';

/** The state as users know it from Ray. */
export const groupStateName = (group: GroupRecord): 'PENDING' | 'CREATED' | 'RESCHEDULING' =>
  group.phase.kind === 'created' ? 'CREATED' : group.phase.kind === 'pending' ? 'PENDING' : 'RESCHEDULING';

/** The group of that name, if there is one. */
export function groupNamed(state: ClusterState, namespace: string, name: string): GroupRecord | undefined {
  for (const group of state.groups.values()) if (group.name === name && group.namespace === namespace) return group;
  return undefined;
}

/** Accepts or refuses a new group; the same id twice is the same group. */
export function createGroup(
  state: ClusterState,
  wanted: GroupRequest,
  request: number | null,
  atMs: number,
): readonly Effect[] {
  const { groupId } = wanted;
  const accepted: Effect = { kind: 'answer', request, answer: { kind: 'group', groupId } };
  const refuse = (error: RayliteError): readonly Effect[] => [
    { kind: 'answer', request, answer: { kind: 'failure', error } },
  ];
  if (state.groups.has(groupId)) return [accepted];
  if (wanted.name !== '' && groupNamed(state, wanted.namespace, wanted.name)) {
    const what = `a name that no placement group of namespace ${JSON.stringify(wanted.namespace)} has`;
    return refuse(new ConfigError('name', what, wanted.name, 'Use getPlacementGroup(name) to reach that group'));
  }
  const group: GroupRecord = {
    ...wanted,
    phase: { kind: 'pending' },
    places: wanted.bundles.map(() => ({ nodeId: null, used: {}, gpus: [] })),
    createdAtMs: atMs,
    waiters: [],
  };
  addGroup(state, group);
  wait(state, `group:${groupId}`);
  const effects = schedule(state);
  // Only where it found no room at once is it worth asking whether it ever could.
  if (state.pending.has(`group:${groupId}`) && !wanted.waitsIfInfeasible && state.index.size > 0) {
    const [demand, nodes] = [groupDemand(group), state.index.nodes()];
    if (!mayEverHold(demand, nodes)) {
      deleteGroup(state, group);
      state.pending.delete(`group:${groupId}`);
      const detail = `the placement group ${explainGroupInfeasible(demand, nodes)}`;
      return [...effects, ...refuse(new InfeasibleError({ detail }))];
    }
  }
  return [{ kind: 'save', table: 'group', id: groupId }, ...effects, accepted];
}

/** Answered when all bundles of the group are set aside; with an error once it is gone. */
export function awaitGroup(state: ClusterState, groupId: GroupId, request: number): readonly Effect[] {
  const group = state.groups.get(groupId);
  if (!group) return [gone(groupId, request)];
  if (group.phase.kind === 'created') return [{ kind: 'answer', request, answer: { kind: 'group', groupId } }];
  group.waiters.push(request);
  return [];
}

const gone = (groupId: GroupId, request: number | null): Effect => ({
  kind: 'answer',
  request,
  answer: { kind: 'failure', error: new PlacementGroupRemovedError({ groupId }) },
});

/** Ends a group with the actors and tasks in it. What they hold comes back as their nodes report them gone, the rest at once. */
export function removeGroup(
  state: ClusterState,
  groupId: GroupId,
  request: number | null,
  atMs: number,
): readonly Effect[] {
  const done: Effect = { kind: 'answer', request, answer: { kind: 'done' } };
  return [...dropGroup(state, groupId, atMs), done, ...schedule(state)];
}

/** Groups end with the process that made them, unless they are detached. */
export const dropGroupsOf = (state: ClusterState, ownerId: WorkerId, atMs: number): readonly Effect[] =>
  state.groupsOf
    .of(ownerId)
    .filter((groupId) => !state.groups.get(groupId)!.isDetached)
    .flatMap((groupId) => dropGroup(state, groupId, atMs));

/** As {@link removeGroup}, without placing pending work yet. */
export function dropGroup(state: ClusterState, groupId: GroupId, atMs: number): readonly Effect[] {
  const group = state.groups.get(groupId);
  if (!group) return [];
  deleteGroup(state, group);
  state.pending.delete(`group:${groupId}`);
  for (const [index, { nodeId, gpus }] of group.places.entries())
    if (nodeId !== null) release(state, { nodeId, gpus: devicesOf(gpus) }, group.bundles[index]!.needs);
  for (const workerId of state.workersIn.of(groupId)) {
    const worker = state.workers.get(workerId)!;
    state.workersIn.delete(groupId, workerId);
    delete worker.bundle; // what it holds until it ends is the node's now
    hold(state, worker, worker.holds);
  }
  const death = { detail: `its placement group ${groupId} was removed`, lastLogLines: [], cause: null };
  const effects: Effect[] = [{ kind: 'forget', table: 'group', id: groupId }];
  for (const actorId of state.actorsIn.of(groupId))
    effects.push(...endActor(state, state.actors.get(actorId)!, death, atMs));
  for (const leaseId of state.leasesIn.of(groupId)) {
    const lease = state.leases.get(leaseId)!;
    if (lease.phase.kind !== 'pending') {
      // Its holder sees the broken stream and asks how the worker ended.
      const { nodeId, workerId } = lease.phase;
      effects.push({ kind: 'stopWorker', nodeId, workerId, force: true, reason: death.detail });
    }
    if (lease.phase.kind === 'granted') continue;
    if (lease.phase.kind === 'starting') retireWorker(state, state.workers.get(lease.phase.workerId)!);
    deleteLease(state, lease);
    state.pending.delete(`lease:${lease.leaseId}`);
    effects.push(gone(groupId, lease.phase.request));
  }
  return [...effects, ...group.waiters.map((request) => gone(groupId, request))];
}

/** A node is lost, and with it the bundles there: other nodes are looked for. Its workers are gone by now. */
export function loseBundles(state: ClusterState, nodeId: NodeId): readonly Effect[] {
  const effects: Effect[] = [];
  for (const group of state.groups.values()) {
    const lost = group.places.filter((place) => place.nodeId === nodeId);
    if (lost.length === 0) continue;
    for (const place of lost) Object.assign(place, { nodeId: null, used: {}, gpus: [] });
    group.phase = { kind: 'rescheduling' };
    wait(state, `group:${group.groupId}`);
    effects.push({ kind: 'save', table: 'group', id: group.groupId });
  }
  return effects;
}
