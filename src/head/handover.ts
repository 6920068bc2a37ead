// Workers pass from lease to lease. One that is given back goes on to the next lease that asks for the same, at once or when there
// is room for it, so that no process ends and none starts; and who holds leases hears when others wait for what they take.
import type { LeaseId, NodeId, WorkerId } from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { Address, LeaseRecord, Place, WorkerRecord } from './entities.js';
import type { PendingKey } from './pending-queue.js';
import { fitsGpus } from './scheduler/gpu-room.js';
import { holderOf, placeOf } from './tables.js';
import { demandOf, split } from './waiting.js';

/**
 * A worker whose lease was given back, and that a lease which waits will take: it has no room, and no record, meanwhile. Tasks that
 * wait for tasks make such workers: when they go on, their node is over its count for a while.
 */
export interface IdleWorker extends Place {
  readonly workerId: WorkerId;
  readonly address: Address;
  /** What it was started with, which cannot be changed. */
  readonly terms: string;
}

/** The worker of `lease`, whose record goes, is there for others. */
export function idle(state: ClusterState, worker: WorkerRecord, lease: LeaseRecord, address: Address): void {
  const { workerId, nodeId } = worker;
  state.idle.set(workerId, { workerId, ...placeOf(nodeId, worker), address, terms: termsOf(lease) });
}

/** An idle worker that will do for `lease` at `place`; it is taken. */
export function takeIdle(state: ClusterState, lease: LeaseRecord, place: Place): IdleWorker | null {
  if (state.idle.size === 0) return null;
  const terms = termsOf(lease);
  for (const worker of state.idle.values()) {
    if (worker.terms !== terms || !isSamePlace(worker, place)) continue;
    // The devices that its process sees are the ones that it keeps.
    if (!fitsGpus(worker.gpus ?? [], lease.demand.needs, holderOf(state, place)!.gpus)) continue;
    state.idle.delete(worker.workerId);
    return worker;
  }
  return null;
}

/** Ends the idle workers that none of those who are next in line would take. */
export function endUnwanted(state: ClusterState): readonly Effect[] {
  if (state.idle.size === 0) return [];
  const wanted = state.pending.nextTerms();
  const unwanted = [...state.idle.values()].filter(({ terms }) => !wanted.has(terms));
  return unwanted.map(({ workerId, nodeId }) => {
    state.idle.delete(workerId);
    return { kind: 'stopWorker', nodeId, workerId, force: false, reason: 'its lease was returned' };
  });
}

/** A node that is away, or comes back, ends those of its workers of which there is no record. */
export function dropIdle(state: ClusterState, nodeId: NodeId): void {
  for (const worker of state.idle.values()) if (worker.nodeId === nodeId) state.idle.delete(worker.workerId);
}

/** Equal for leases that the same worker may serve. */
export const termsOf = ({ jobId, runtimeEnv, demand, capturesChildren }: LeaseRecord): string =>
  JSON.stringify([jobId, runtimeEnv, demand.needs, capturesChildren]);

const isSamePlace = (a: Place, b: Place): boolean =>
  a.nodeId === b.nodeId && a.bundle?.groupId === b.bundle?.groupId && a.bundle?.index === b.bundle?.index;

/** Tells the holders of leases that were not told since their last one, where others wait for room that could be theirs. */
export function tellHolders(state: ClusterState): readonly Effect[] {
  if (state.untold.size === 0 || state.pending.size === 0) return [];
  const owners = waitingOwners(state);
  const effects: Effect[] = [];
  for (const ownerId of state.untold) {
    if (owners.size === 0 || (owners.size === 1 && owners.has(ownerId))) continue;
    state.untold.delete(ownerId);
    effects.push({ kind: 'leasesWanted', ownerId });
  }
  return effects;
}

/**
 * Whose leases wait for room, null standing for whatever is no lease; two are enough to know. Behind the requests of one that
 * has all it needs others may stand in the same line.
 */
function waitingOwners(state: ClusterState): ReadonlySet<WorkerId | null> {
  const owners = new Set<WorkerId | null>();
  for (const line of state.pending.lines()) {
    let isFirst = true;
    for (const key of line) {
      if (isFirst && !waitsForRoom(state, key)) break;
      isFirst = false;
      const { kind, id } = split(key);
      owners.add(kind === 'lease' ? state.leases.get(id as LeaseId)!.ownerId : null);
      if (owners.size > 1) return owners;
    }
  }
  return owners;
}

/** Whether it is room that it lacks, which holders of leases could make. */
function waitsForRoom(state: ClusterState, key: PendingKey): boolean {
  const demand = split(key).kind === 'group' ? null : demandOf(state, key);
  return demand === null || demand.bundle !== undefined || state.index.place(demand, '').kind === 'wait';
}
