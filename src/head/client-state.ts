// Drivers and workers that talk to the head: who they are, and what ends with them.
import type { WorkerId } from '../common/index.js';
import { endActorsOf } from './actor-state.js';
import type { ClusterState } from './cluster-state.js';
import type { Effect } from './effects.js';
import type { ClientRecord } from './entities.js';
import { dropGroupsOf } from './group-state.js';
import { endJob, startTimes } from './job-state.js';
import { endLeasesOf } from './lease-state.js';
import { schedule } from './schedule.js';
import { demandFor } from './scheduler/place.js';

/** A client says hello, for the first time or again. A driver that is no submitted job becomes a job of its own. */
export function clientJoined(
  state: ClusterState,
  client: ClientRecord,
  entrypoint: string,
  atMs: number,
): readonly Effect[] {
  state.clients.set(client.workerId, client);
  if (!client.isDriver) return [];
  const job = state.jobs.get(client.jobId);
  if (job) {
    job.driverId = client.workerId;
    return [{ kind: 'save', table: 'job', id: client.jobId }];
  }
  state.jobs.set(client.jobId, {
    jobId: client.jobId,
    entrypoint,
    runtimeEnv: { package: '', envVars: {} },
    demand: demandFor({ needs: {}, selector: {}, strategy: 'DEFAULT', locality: [] }),
    metadata: {},
    type: 'DRIVER',
    status: 'RUNNING',
    message: '',
    nodeId: null,
    driverId: client.workerId,
    exitCode: null,
    isStopRequested: false,
    submittedAtMs: atMs,
    startedAtMs: atMs,
    endedAtMs: null,
  });
  return [
    { kind: 'save', table: 'job', id: client.jobId },
    { kind: 'jobChanged', jobId: client.jobId },
  ];
}

/**
 * A driver is gone: it closed its stream (`isClean`), or did not come back in time. Its actors and leases end with it.
 * Of a worker, its node knows better; a broken stream alone says nothing.
 */
export function clientLeft(state: ClusterState, workerId: WorkerId, isClean: boolean, atMs: number): readonly Effect[] {
  const client = state.clients.get(workerId);
  state.clients.delete(workerId);
  if (state.workers.has(workerId)) return [];
  const detail = client?.isDriver ? `its driver ended (job ${client.jobId})` : `its owner, worker ${workerId}, ended`;
  const effects: Effect[] = [
    ...endActorsOf(state, workerId, detail, atMs),
    ...endLeasesOf(state, workerId),
    ...dropGroupsOf(state, workerId, atMs),
  ];
  if (client?.isDriver) effects.push({ kind: 'ownerGone', workerId });
  const job = client?.isDriver ? state.jobs.get(client.jobId) : undefined;
  if (job?.type === 'DRIVER') {
    const end = isClean ? ('SUCCEEDED' as const) : ('FAILED' as const);
    effects.push(...endJob(state, job, end, isClean ? '' : 'the driver was lost', null, atMs));
  }
  return [...effects, ...startTimes(state, schedule(state), atMs)];
}
