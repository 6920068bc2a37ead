// The life of jobs: a submitted entrypoint that the cluster runs, or a driver that connected by itself.
//
//   (asked) ─submitJob→ PENDING ─schedule→ RUNNING ─jobExited→ SUCCEEDED | FAILED | STOPPED
//   PENDING ─stopJob→ STOPPED
import { ConfigError, type JobId } from '../common/index.js';
import { endActor } from './actor-state.js';
import { type ClusterState, ENDED_JOBS_MAX } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { JobRecord, JobRequest, JobStatus } from './entities.js';
import { dropGroup } from './group-state.js';
import { infeasible, schedule, wait } from './schedule.js';
import { placeOf, release } from './tables.js';

export const isEnded = (job: { readonly status: JobStatus }): boolean =>
  job.status === 'STOPPED' || job.status === 'SUCCEEDED' || job.status === 'FAILED';

export function submitJob(
  state: ClusterState,
  wanted: JobRequest,
  request: number | null,
  atMs: number,
): readonly Effect[] {
  const refuse = (error: ConfigError | NonNullable<ReturnType<typeof infeasible>>): readonly Effect[] => [
    { kind: 'answer', request, answer: { kind: 'failure', error } },
  ];
  if (state.jobs.has(wanted.jobId)) {
    return refuse(
      new ConfigError('submission_id', 'an id that no other job has', wanted.jobId, 'Leave it out to get a new one'),
    );
  }
  const refusal = infeasible(state, `the entrypoint of ${wanted.jobId}`, wanted.demand, false);
  if (refusal) return refuse(refusal);
  state.jobs.set(wanted.jobId, {
    ...wanted,
    type: 'SUBMISSION',
    status: 'PENDING',
    message: '',
    nodeId: null,
    driverId: null,
    exitCode: null,
    isStopRequested: false,
    submittedAtMs: atMs,
    startedAtMs: null,
    endedAtMs: null,
  });
  wait(state, `job:${wanted.jobId}`);
  return [
    { kind: 'save', table: 'job', id: wanted.jobId },
    { kind: 'answer', request, answer: { kind: 'done' } },
    ...startTimes(state, schedule(state), atMs),
  ];
}

/** Notes when a job's entrypoint was handed to its node. */
export function startTimes(state: ClusterState, effects: readonly Effect[], atMs: number): readonly Effect[] {
  for (const effect of effects) {
    if (effect.kind === 'startJob') state.jobs.get(effect.jobId)!.startedAtMs = atMs;
  }
  return effects;
}

/** Asks a running job to stop (its node sends SIGTERM, then SIGKILL); a waiting one is stopped at once. */
export function stopJob(state: ClusterState, jobId: JobId, request: number | null, atMs: number): readonly Effect[] {
  const done: Effect = { kind: 'answer', request, answer: { kind: 'done' } };
  const job = state.jobs.get(jobId);
  if (!job || isEnded(job)) return [done];
  job.isStopRequested = true;
  if (job.nodeId === null) {
    if (job.type === 'DRIVER') return [done];
    return [...endJob(state, job, 'STOPPED', 'stopped before it started', null, atMs), done];
  }
  return [{ kind: 'save', table: 'job', id: jobId }, { kind: 'stopJob', nodeId: job.nodeId, jobId }, done];
}

export function jobExited(
  state: ClusterState,
  job: JobRecord,
  end: { readonly exitCode: number; readonly signal: string; readonly failure: string | null },
  atMs: number,
): readonly Effect[] {
  if (isEnded(job)) return [];
  const how = end.signal !== '' ? `was ended by ${end.signal}` : `exited with code ${end.exitCode}`;
  if (job.isStopRequested) return endJob(state, job, 'STOPPED', 'stopped by request', end.exitCode, atMs);
  if (end.failure !== null) return endJob(state, job, 'FAILED', end.failure, end.exitCode, atMs);
  if (end.exitCode === 0 && end.signal === '') return endJob(state, job, 'SUCCEEDED', '', 0, atMs);
  return endJob(state, job, 'FAILED', `the entrypoint ${how}`, end.exitCode, atMs);
}

/** Ends a job and every non-detached actor that was made in it. */
export function endJob(
  state: ClusterState,
  job: JobRecord,
  status: 'STOPPED' | 'SUCCEEDED' | 'FAILED',
  message: string,
  exitCode: number | null,
  atMs: number,
): readonly Effect[] {
  if (isEnded(job)) return [];
  if (job.type === 'SUBMISSION' && job.nodeId !== null) release(state, placeOf(job.nodeId, job), job.demand.needs);
  state.pending.delete(`job:${job.jobId}`);
  job.status = status;
  job.message = message;
  job.exitCode = exitCode;
  job.endedAtMs = atMs;
  const death = { detail: `its job ${job.jobId} ended`, lastLogLines: [], cause: null };
  const effects: Effect[] = [
    { kind: 'save', table: 'job', id: job.jobId },
    { kind: 'jobChanged', jobId: job.jobId },
  ];
  for (const actorId of state.actorsOfJob.of(job.jobId)) {
    const actor = state.actors.get(actorId);
    if (actor && !actor.isDetached) effects.push(...endActor(state, actor, death, atMs));
  }
  for (const group of [...state.groups.values()]) {
    if (group.jobId === job.jobId && !group.isDetached) effects.push(...dropGroup(state, group.groupId, atMs));
  }
  const ended = [...state.jobs.values()].filter(isEnded);
  for (const old of ended.slice(0, Math.max(0, ended.length - ENDED_JOBS_MAX))) {
    effects.push(...deleteJob(state, old.jobId));
  }
  return [...effects, ...startTimes(state, schedule(state), atMs)];
}

/** Forgets an ended job. */
export function deleteJob(state: ClusterState, jobId: JobId): readonly Effect[] {
  state.jobs.delete(jobId);
  return [{ kind: 'forget', table: 'job', id: jobId }];
}
