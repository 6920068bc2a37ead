// The cluster's state as records of the store, and back: what a new head finds, and how it takes it up.
import type { JobId, WorkerId } from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type { Table } from './effects.js';
import type { ActorRecord, GroupRecord, JobRecord, LeaseRecord, NodeRecord } from './entities.js';
import { isEnded } from './job-state.js';
import { wait } from './schedule.js';
import { devicesOf, gpuRoomOf, newGpuRoom } from './scheduler/gpu-room.js';
import type { Change, Entry } from './store.js';
import { addActor, addGroup, addLease, addWorker, hold, placeOf, setNode } from './tables.js';

/** The change that makes the store hold the present record of `table`/`id`. */
export function changeOf(state: ClusterState, table: Table, id: string): Change {
  return { table, id, value: recordOf(state, table, id) };
}

function recordOf(state: ClusterState, table: Table, id: string): unknown {
  switch (table) {
    case 'node': {
      const node = state.nodes.get(id as never);
      return node && { ...node, used: {}, gpus: newGpuRoom(node.total), beat: null };
    }
    case 'actor':
      return state.actors.get(id as never);
    case 'lease':
      return state.leases.get(id as never);
    case 'job':
      return state.jobs.get(id as never);
    case 'group': {
      const group = state.groups.get(id as never);
      const places = group?.places.map(({ nodeId, gpus }, index) => ({
        nodeId,
        used: {},
        gpus: gpuRoomOf(devicesOf(gpus), group.bundles[index]!.needs),
      }));
      return group && { ...group, places, waiters: [] };
    }
  }
}

/**
 * Fills an empty `state` with what a former head kept. Nodes are away until they say hello; what ran there counts as
 * running until they do, or are given up. Returns the processes whose end would end others, so that they can be missed.
 */
export function restore(state: ClusterState, entries: readonly Entry[]): { readonly owners: ReadonlySet<WorkerId> } {
  const owners = new Set<WorkerId>();
  const of = <T>(table: Table): readonly T[] =>
    entries.filter((entry) => entry.table === table).map((entry) => entry.value as T);
  for (const node of [...of<NodeRecord>('node')].sort((a, b) => a.joinedAtMs - b.joinedAtMs)) {
    setNode(state, { ...node, status: node.status === 'dead' ? 'dead' : 'away' });
  }
  for (const group of [...of<GroupRecord>('group')].sort((a, b) => a.createdAtMs - b.createdAtMs)) {
    addGroup(state, group);
    if (!group.isDetached) owners.add(group.ownerId);
    if (group.phase.kind !== 'created') wait(state, `group:${group.groupId}`);
    for (const [index, { nodeId, gpus }] of group.places.entries())
      if (nodeId !== null) hold(state, { nodeId, gpus: devicesOf(gpus) }, group.bundles[index]!.needs);
  }
  for (const actor of [...of<ActorRecord>('actor')].sort((a, b) => a.createdAtMs - b.createdAtMs)) {
    addActor(state, actor);
    if (actor.phase.kind === 'dead') continue;
    if (!actor.isDetached) owners.add(actor.ownerId);
    if (actor.phase.kind === 'pending') {
      wait(state, `actor:${actor.actorId}`);
    } else {
      const { nodeId, workerId } = actor.phase;
      addWorker(state, placeOf(nodeId, actor), workerId, actor.holds, { kind: 'actor', actorId: actor.actorId });
    }
  }
  for (const lease of of<LeaseRecord>('lease')) {
    if (lease.phase.kind !== 'granted') continue;
    const { nodeId, workerId } = lease.phase;
    addLease(state, lease);
    addWorker(state, placeOf(nodeId, lease), workerId, lease.demand.needs, { kind: 'lease', leaseId: lease.leaseId });
    owners.add(lease.ownerId);
  }
  for (const job of [...of<JobRecord>('job')].sort((a, b) => a.submittedAtMs - b.submittedAtMs)) {
    state.jobs.set(job.jobId, job);
    if (isEnded(job)) continue;
    if (job.driverId !== null) {
      owners.add(job.driverId);
      const { driverId, jobId } = job;
      const known = { workerId: driverId, jobId: jobId as JobId, namespace: 'default', nodeId: null };
      state.clients.set(driverId, { ...known, isDriver: true });
    }
    if (job.status === 'PENDING') wait(state, `job:${job.jobId}`);
    else if (job.nodeId !== null) hold(state, placeOf(job.nodeId, job), job.demand.needs);
  }
  return { owners };
}
