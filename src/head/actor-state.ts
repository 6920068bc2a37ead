// The life of actors: asked for, placed, alive, restarted, dead.
//
//   (asked) ─createActor→ pending ─schedule→ starting ─actorStarted→ alive
//   starting | alive ─actorWorkerGone→ pending (restarts left) | dead
//   any ─endActor→ dead                        (killed, constructor threw, owner or job ended)
import { type ActorId, ConfigError, type WorkerId } from '../common/index.js';
import { type ClusterState, ENDED_ACTORS_MAX, FAILED_STARTS_MAX } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { ActorRecord, ActorRequest, Address, Death, WorkerEnd } from './entities.js';
import { infeasible, schedule, wait } from './schedule.js';
import { addActor, buryActor, nameKey, retireWorker } from './tables.js';

/** The state as users know it from Ray. */
export function actorStateName(actor: ActorRecord): 'PENDING_CREATION' | 'RESTARTING' | 'ALIVE' | 'DEAD' {
  if (actor.phase.kind === 'alive') return 'ALIVE';
  if (actor.phase.kind === 'dead') return 'DEAD';
  return actor.incarnation > 1 ? 'RESTARTING' : 'PENDING_CREATION';
}

/** Accepts or refuses a new actor; the same id twice is the same actor. */
export function createActor(
  state: ClusterState,
  wanted: ActorRequest,
  request: number | null,
  atMs: number,
): readonly Effect[] {
  const accepted: Effect = { kind: 'answer', request, answer: { kind: 'actor', actorId: wanted.actorId } };
  if (state.actors.has(wanted.actorId)) return [accepted];
  const refuse = (error: ConfigError | NonNullable<ReturnType<typeof infeasible>>): readonly Effect[] => [
    { kind: 'answer', request, answer: { kind: 'failure', error } },
  ];
  const namesake = wanted.name === '' ? undefined : state.names.get(nameKey(wanted));
  if (namesake && wanted.getOrCreate)
    return [{ kind: 'answer', request, answer: { kind: 'actor', actorId: namesake } }];
  if (namesake) {
    return refuse(
      new ConfigError(
        'name',
        `a name that no live actor of namespace ${JSON.stringify(wanted.namespace)} has`,
        wanted.name,
        'Use getActor(name) to reach that actor, or kill it first',
      ),
    );
  }
  const refusal = infeasible(state, `actor ${wanted.className}`, wanted.demand, wanted.waitsIfInfeasible);
  if (refusal) return refuse(refusal);
  addActor(state, {
    ...wanted,
    phase: { kind: 'pending' },
    incarnation: 1,
    restartCount: 0,
    failedStarts: 0,
    createdAtMs: atMs,
  });
  wait(state, `actor:${wanted.actorId}`);
  return [{ kind: 'save', table: 'actor', id: wanted.actorId }, accepted, ...schedule(state)];
}

/** The constructor returned and the worker serves calls. */
export function actorStarted(actor: ActorRecord, address: Address, pid: number): readonly Effect[] {
  if (actor.phase.kind !== 'starting') return [];
  actor.phase = { kind: 'alive', nodeId: actor.phase.nodeId, workerId: actor.phase.workerId, address, pid };
  actor.failedStarts = 0;
  return [
    { kind: 'save', table: 'actor', id: actor.actorId },
    { kind: 'actorChanged', actorId: actor.actorId },
  ];
}

/** Its process ended (or its node did): restarts it while `maxRestarts` allows. */
export function actorWorkerGone(
  state: ClusterState,
  actor: ActorRecord,
  end: Omit<WorkerEnd, 'exitCode' | 'signal'>,
  atMs: number,
): readonly Effect[] {
  if (actor.phase.kind === 'dead') return [];
  const isLeft = actor.restartCount < actor.maxRestarts || (end.isDrained === true && actor.maxRestarts > 0);
  const mayRestart = actor.maxRestarts === -1 || isLeft;
  if (end.isIntended || !mayRestart) {
    const used = !end.isIntended && actor.maxRestarts > 0 ? `; all ${actor.maxRestarts} restarts were used` : '';
    return endActor(
      state,
      actor,
      { detail: `${end.detail}${used}`, lastLogLines: end.lastLogLines, cause: end.cause },
      atMs,
    );
  }
  if (!end.isDrained) actor.restartCount += 1; // as in Ray: that its node was taken away is no fault of its own
  actor.incarnation += 1;
  return waitAgain(state, actor);
}

/** Its worker could not even be started: tried again a few times, apart from `maxRestarts`. */
export function actorStartFailed(
  state: ClusterState,
  actor: ActorRecord,
  death: Death,
  atMs: number,
): readonly Effect[] {
  if (actor.phase.kind === 'dead') return [];
  actor.failedStarts += 1;
  if (actor.failedStarts >= FAILED_STARTS_MAX) return endActor(state, actor, death, atMs);
  return waitAgain(state, actor);
}

function waitAgain(state: ClusterState, actor: ActorRecord): readonly Effect[] {
  actor.phase = { kind: 'pending' };
  wait(state, `actor:${actor.actorId}`);
  return [
    { kind: 'save', table: 'actor', id: actor.actorId },
    { kind: 'actorChanged', actorId: actor.actorId },
  ];
}

/** Ends an actor for good and stops its worker, whose resources come back when the node reports it gone. */
export function endActor(
  state: ClusterState,
  actor: ActorRecord,
  death: Death,
  atMs: number,
  graceMs = 0,
): readonly Effect[] {
  if (actor.phase.kind === 'dead') return [];
  const effects: Effect[] = [];
  if (actor.phase.kind !== 'pending') {
    const worker = state.workers.get(actor.phase.workerId);
    if (worker) {
      retireWorker(state, worker);
      effects.push({
        kind: 'stopWorker',
        nodeId: worker.nodeId,
        workerId: worker.workerId,
        force: graceMs === 0,
        reason: death.detail,
        graceMs,
      });
    }
  }
  state.pending.delete(`actor:${actor.actorId}`);
  actor.phase = { kind: 'dead', death, endedAtMs: atMs };
  buryActor(state, actor);
  return [
    { kind: 'save', table: 'actor', id: actor.actorId },
    ...effects,
    { kind: 'actorChanged', actorId: actor.actorId },
    ...forgetOldest(state),
  ];
}

/** A client asks to end an actor. With `noRestart` false only its process ends, and restarts count as after a crash. */
export function killActor(
  state: ClusterState,
  actorId: ActorId,
  how: { readonly noRestart: boolean; readonly graceMs: number; readonly incarnation: number },
  request: number | null,
  atMs: number,
): readonly Effect[] {
  const actor = state.actors.get(actorId);
  if (!actor) return [{ kind: 'answer', request, answer: { kind: 'done' } }];
  const done: Effect = { kind: 'answer', request, answer: { kind: 'actor', actorId } }; // what became of it
  if (actor.phase.kind === 'dead') return [done];
  if (how.noRestart || actor.phase.kind === 'pending') {
    const detail = how.graceMs > 0 ? 'it was stopped' : 'it was killed';
    const death: Death = { detail, lastLogLines: [], cause: null };
    return [...endActor(state, actor, death, atMs, how.graceMs), done, ...schedule(state)];
  }
  // A request that came twice must not kill what was started again meanwhile.
  if (how.incarnation !== 0 && how.incarnation !== actor.incarnation) return [done];
  const { nodeId, workerId } = actor.phase;
  return [{ kind: 'stopWorker', nodeId, workerId, force: true, reason: 'it was killed' }, done];
}

/** Non-detached actors end with the process that made them. */
export function endActorsOf(state: ClusterState, ownerId: WorkerId, detail: string, atMs: number): readonly Effect[] {
  return state.actorsOf
    .of(ownerId)
    .map((actorId) => state.actors.get(actorId)!)
    .filter((actor) => !actor.isDetached)
    .flatMap((actor) => endActor(state, actor, { detail, lastLogLines: [], cause: null }, atMs));
}

function forgetOldest(state: ClusterState): readonly Effect[] {
  const effects: Effect[] = [];
  for (const actorId of state.endedActors) {
    if (state.endedActors.size <= ENDED_ACTORS_MAX) break;
    state.endedActors.delete(actorId);
    state.actors.delete(actorId);
    effects.push({ kind: 'forget', table: 'actor', id: actorId });
  }
  return effects;
}
