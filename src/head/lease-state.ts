// The life of task leases: a client borrows one worker, runs tasks on it directly, and gives it back.
//
//   (asked) ─requestLease→ pending ─schedule→ starting ─leaseStarted→ granted ─returnLease→ (gone)
//   starting ─leaseStartFailed→ pending | (refused)
import { type LeaseId, type RayliteError, WorkerCrashedError, type WorkerId } from '../common/index.js';
import { type ClusterState, FAILED_STARTS_MAX, LEASE_ENDS_MAX } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { Address, LeaseRecord, LeaseRequest, WorkerEnd } from './entities.js';
import { idle, tellHolders } from './handover.js';
import { grantLease, infeasible, schedule, wait } from './schedule.js';
import { addLease, deleteLease, deleteWorker, retireWorker } from './tables.js';

/** Answered when a worker is ready; refused at once when no node could ever hold it. */
export function requestLease(state: ClusterState, wanted: LeaseRequest, request: number | null): readonly Effect[] {
  const known = state.leases.get(wanted.leaseId);
  if (known) return askAgain(known, request);
  const refusal = infeasible(state, 'the task', wanted.demand, wanted.waitsIfInfeasible);
  if (refusal) return [{ kind: 'answer', request, answer: { kind: 'failure', error: refusal } }];
  addLease(state, { ...wanted, phase: { kind: 'pending', request }, failedStarts: 0 });
  wait(state, `lease:${wanted.leaseId}`);
  return schedule(state);
}

/** The same request after a reconnect: only the latest is answered. */
function askAgain(lease: LeaseRecord, request: number | null): readonly Effect[] {
  if (lease.phase.kind === 'granted') {
    const { leaseId } = lease;
    return [{ kind: 'answer', request, answer: { kind: 'lease', leaseId, address: lease.phase.address } }];
  }
  lease.phase = { ...lease.phase, request };
  return [];
}

/** Its worker serves calls; if others wait for room, its holder hears so. */
export const leaseStarted = (state: ClusterState, lease: LeaseRecord, address: Address): readonly Effect[] => [
  ...grantLease(state, lease, address),
  ...tellHolders(state),
];

/** Its worker ended. Before the grant another is tried a few times; after it, its holder sees the broken stream. */
export function leaseWorkerGone(
  state: ClusterState,
  lease: LeaseRecord,
  end: WorkerEnd,
  error: RayliteError | null,
): readonly Effect[] {
  if (lease.phase.kind === 'granted') {
    state.leaseEnds.set(lease.leaseId, end);
    if (state.leaseEnds.size > LEASE_ENDS_MAX) state.leaseEnds.delete(state.leaseEnds.keys().next().value!);
    return forget(state, lease);
  }
  if (lease.phase.kind === 'pending') return [];
  const { nodeId, workerId, request } = lease.phase;
  if (!end.isForMemory) lease.failedStarts += 1; // that says nothing of the lease
  if (error === null && lease.failedStarts < FAILED_STARTS_MAX) {
    lease.phase = { kind: 'pending', request };
    wait(state, `lease:${lease.leaseId}`);
    return [];
  }
  const failure = error ?? new WorkerCrashedError({ workerId, nodeId, ...end });
  return [...forget(state, lease), { kind: 'answer', request, answer: { kind: 'failure', error: failure } }];
}

/**
 * Gives a lease back, or cancels one that was not granted yet. That of a broken worker is answered once its process is
 * gone, with how it ended; `force` ends it at once.
 */
export function returnLease(
  state: ClusterState,
  leaseId: LeaseId,
  worker: { readonly isBroken: boolean; readonly force: boolean },
  request: number | null,
): readonly Effect[] {
  const done: Effect = { kind: 'answer', request, answer: { kind: 'done' } };
  const lease = state.leases.get(leaseId);
  if (!lease) {
    const end = state.leaseEnds.get(leaseId);
    state.leaseEnds.delete(leaseId);
    return [end ? { kind: 'answer', request, answer: { kind: 'workerEnd', end } } : done];
  }
  const running = lease.phase.kind === 'granted' ? state.workers.get(lease.phase.workerId) : undefined;
  if (lease.phase.kind === 'granted' && running && !worker.isBroken && !running.lent) {
    const { address } = lease.phase;
    idle(state, running, lease, address);
    const effects = forget(state, lease);
    deleteWorker(state, running);
    return [...effects, done, ...schedule(state)];
  }
  if (!worker.isBroken || !running) return [...endLease(state, lease, worker.isBroken), done, ...schedule(state)];
  // What it holds comes back when its node says that it is gone.
  retireWorker(state, running);
  if (request !== null) state.endQuestions.set(running.workerId, request);
  const { nodeId, workerId } = running;
  const reason = 'its lease was given back as broken';
  return [...forget(state, lease), { kind: 'stopWorker', nodeId, workerId, force: worker.force, reason }];
}

/** Leases end with the process that holds them; what runs there is stopped, since nobody waits for it. */
export function endLeasesOf(state: ClusterState, ownerId: WorkerId): readonly Effect[] {
  return state.leasesOf.of(ownerId).flatMap((leaseId) => endLease(state, state.leases.get(leaseId)!, true));
}

function endLease(state: ClusterState, lease: LeaseRecord, force: boolean): readonly Effect[] {
  const effects = [...forget(state, lease)];
  // Whoever waits for it hears that none comes: a question without an answer would be asked again after a reconnect.
  if (lease.phase.kind !== 'granted' && lease.phase.request !== null)
    effects.push({ kind: 'answer', request: lease.phase.request, answer: { kind: 'done' } });
  if (lease.phase.kind === 'pending') return effects;
  const worker = state.workers.get(lease.phase.workerId);
  if (worker) {
    // Room comes back at once: a returned worker is idle, and the next task should not wait for its exit.
    deleteWorker(state, worker);
    effects.push({
      kind: 'stopWorker',
      nodeId: worker.nodeId,
      workerId: worker.workerId,
      force,
      reason: force ? 'the process that leased it ended' : 'its lease was returned',
    });
  }
  return effects;
}

function forget(state: ClusterState, lease: LeaseRecord): readonly Effect[] {
  deleteLease(state, lease);
  state.pending.delete(`lease:${lease.leaseId}`);
  return [{ kind: 'forget', table: 'lease', id: lease.leaseId }];
}
