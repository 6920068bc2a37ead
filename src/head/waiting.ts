// What the keys of the pending queue stand for.
import type { ActorId, JobId, LeaseId } from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type { PendingKey } from './pending-queue.js';
import type { Demand } from './scheduler/place.js';

export function split(key: PendingKey): { readonly kind: string; readonly id: string } {
  const at = key.indexOf(':');
  return { kind: key.slice(0, at), id: key.slice(at + 1) };
}

/** What an actor, lease or job asks for; null where its record is gone. */
export function demandOf(state: ClusterState, key: PendingKey): Demand | null {
  const { kind, id } = split(key);
  if (kind === 'actor') return state.actors.get(id as ActorId)?.demand ?? null;
  if (kind === 'lease') return state.leases.get(id as LeaseId)?.demand ?? null;
  return state.jobs.get(id as JobId)?.demand ?? null;
}
