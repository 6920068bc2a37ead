// Workers pass from lease to lease. One that is given back goes straight on to the next lease that asks for the same, so
// that no process ends and none starts; and who holds leases hears when others wait for what they take.
import type { LeaseId, WorkerId } from '../common/index.js';
import type { Address, ClusterState, Effect, LeaseRecord, Place, WorkerRecord } from './cluster-state.js';
import type { PendingKey } from './pending-queue.js';
import { fitsGpus } from './scheduler/gpu-room.js';
import { holderOf, placeOf } from './tables.js';
import { demandOf, split } from './waiting.js';

/** A worker whose lease was just given back; for the length of one step. */
export interface ReturnedWorker extends Place {
  readonly workerId: WorkerId;
  readonly address: Address;
  /** What it was started with, which cannot be changed. */
  readonly terms: string;
}

export const returnedWorker = (worker: WorkerRecord, lease: LeaseRecord, address: Address): ReturnedWorker => ({
  workerId: worker.workerId,
  ...placeOf(worker.nodeId, worker),
  address,
  terms: termsOf(lease),
});

/** The returned worker, if it will do for `lease` at `place`; it is taken. */
export function takeReturned(state: ClusterState, lease: LeaseRecord, place: Place): ReturnedWorker | null {
  const { returned } = state;
  if (returned === null || returned.terms !== termsOf(lease) || !isSamePlace(returned, place)) return null;
  // The devices that its process sees are the ones that it keeps.
  if (!fitsGpus(returned.gpus ?? [], lease.demand.needs, holderOf(state, place)!.gpus)) return null;
  state.returned = null;
  return returned;
}

const termsOf = ({ jobId, runtimeEnv, demand, capturesChildren }: LeaseRecord): string =>
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
