// What nodes report about worker processes, turned into the next step of the actor or lease they serve.
import { addResources, type RayliteError, subtractResources, type WorkerId } from '../common/index.js';
import { actorStarted, actorStartFailed, actorWorkerGone, endActor, endActorsOf } from './actor-state.js';
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { Address, Death, WorkerEnd } from './entities.js';
import { dropGroupsOf } from './group-state.js';
import { startTimes } from './job-state.js';
import { endLeasesOf, leaseStarted, leaseWorkerGone } from './lease-state.js';
import { schedule } from './schedule.js';
import { deleteWorker, hold, release } from './tables.js';

const NO_END: WorkerEnd = {
  detail: '',
  exitCode: null,
  signal: null,
  lastLogLines: [],
  isIntended: false,
  cause: null,
};

/** A worker serves calls. */
export function workerStarted(
  state: ClusterState,
  workerId: WorkerId,
  address: Address,
  pid: number,
): readonly Effect[] {
  const purpose = state.workers.get(workerId)?.purpose;
  if (!purpose) return [];
  if (purpose.kind === 'actor') {
    const actor = state.actors.get(purpose.actorId);
    return actor ? actorStarted(actor, address, pid) : [];
  }
  const lease = state.leases.get(purpose.leaseId);
  return lease ? leaseStarted(state, lease, address) : [];
}

/**
 * A worker did not come up. Final: its code or environment is at fault (the constructor threw, a package is missing),
 * so that another try would end the same way.
 */
export function workerFailed(
  state: ClusterState,
  workerId: WorkerId,
  failure: { readonly error: RayliteError; readonly cause: Uint8Array; readonly isFinal: boolean },
  atMs: number,
): readonly Effect[] {
  const worker = state.workers.get(workerId);
  if (!worker) return [];
  const { purpose } = worker;
  deleteWorker(state, worker);
  const effects: Effect[] = [
    { kind: 'stopWorker', nodeId: worker.nodeId, workerId, force: true, reason: 'it failed to start' },
  ];
  if (purpose?.kind === 'actor') {
    const actor = state.actors.get(purpose.actorId);
    const death: Death = { detail: failure.error.message, lastLogLines: [], cause: failure.cause };
    if (actor)
      effects.push(
        ...(failure.isFinal ? endActor(state, actor, death, atMs) : actorStartFailed(state, actor, death, atMs)),
      );
  } else if (purpose?.kind === 'lease') {
    const lease = state.leases.get(purpose.leaseId);
    if (lease)
      effects.push(
        ...leaseWorkerGone(
          state,
          lease,
          { ...NO_END, detail: failure.error.message },
          failure.isFinal ? failure.error : null,
        ),
      );
  }
  return [...effects, ...startTimes(state, schedule(state), atMs)];
}

/**
 * All that a worker runs waits for objects, or it goes on. Meanwhile others may have its CPUs, since the objects may have
 * to be made first; it never waits to get them back, so that a node may be over its count for a while.
 */
export function workerBlocked(state: ClusterState, workerId: WorkerId, isBlocked: boolean): readonly Effect[] {
  const worker = state.workers.get(workerId);
  if (!worker || isBlocked === (worker.lent !== undefined)) return [];
  if (isBlocked) {
    worker.lent = { CPU: worker.holds.CPU ?? 0 };
    worker.holds = subtractResources(worker.holds, worker.lent);
    release(state, worker, worker.lent);
    return schedule(state);
  }
  const lent = worker.lent ?? {};
  worker.holds = addResources(worker.holds, lent);
  delete worker.lent;
  hold(state, worker, lent);
  return [];
}

/** A worker's process is gone; so is what it owned. */
export function workerExited(state: ClusterState, workerId: WorkerId, end: WorkerEnd, atMs: number): readonly Effect[] {
  return [...loseWorker(state, workerId, end, atMs), ...startTimes(state, schedule(state), atMs)];
}

/** As {@link workerExited}, without placing pending work yet. */
export function loseWorker(state: ClusterState, workerId: WorkerId, end: WorkerEnd, atMs: number): readonly Effect[] {
  state.idle.delete(workerId);
  const effects: Effect[] = [
    ...endActorsOf(state, workerId, `its owner, worker ${workerId}, ended: ${end.detail}`, atMs),
    ...endLeasesOf(state, workerId),
    ...dropGroupsOf(state, workerId, atMs),
    { kind: 'ownerGone', workerId },
  ];
  const question = state.endQuestions.get(workerId);
  if (question !== undefined) effects.push({ kind: 'answer', request: question, answer: { kind: 'workerEnd', end } });
  state.endQuestions.delete(workerId);
  const worker = state.workers.get(workerId);
  if (!worker) return effects;
  const { purpose } = worker;
  deleteWorker(state, worker);
  if (purpose?.kind === 'actor') {
    const actor = state.actors.get(purpose.actorId);
    if (actor) effects.push(...actorWorkerGone(state, actor, end, atMs));
  } else if (purpose?.kind === 'lease') {
    const lease = state.leases.get(purpose.leaseId);
    if (lease) effects.push(...leaseWorkerGone(state, lease, end, null));
  }
  return effects;
}
