// The head's one decision function: an event in, the work it causes out. Same state and event, same effects.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, RayliteError, WorkerId } from '../common/index.js';
import { createActor, killActor } from './actor-state.js';
import { clientJoined, clientLeft } from './client-state.js';
import type { ClusterState } from './cluster-state.js';
import { drainNode } from './drain-state.js';
import type { Effect } from './effects.js';
import type {
  ActorRequest,
  Address,
  ClientRecord,
  DrainOrder,
  GroupRequest,
  JobRequest,
  LeaseRequest,
  NodeBeat,
  NodeFacts,
  WorkerEnd,
} from './entities.js';
import { awaitGroup, createGroup, removeGroup } from './group-state.js';
import { deleteJob, isEnded, jobExited, startTimes, stopJob, submitJob } from './job-state.js';
import { requestLease, returnLease } from './lease-state.js';
import { nodeAway, nodeBeat, nodeJoined, nodeLost, nodeOverdue, type RunningWorker } from './node-state.js';
import { workerBlocked, workerExited, workerFailed, workerStarted } from './worker-state.js';

/** `request` names the question to answer; null where nobody waits. */
export type ClusterEvent =
  | {
      readonly kind: 'nodeJoined';
      readonly facts: NodeFacts;
      readonly workers: readonly RunningWorker[];
      readonly jobs: readonly JobId[];
    }
  | { readonly kind: 'nodeBeat'; readonly nodeId: NodeId; readonly beat: NodeBeat }
  | { readonly kind: 'nodeAway'; readonly nodeId: NodeId }
  | { readonly kind: 'nodeLost'; readonly nodeId: NodeId; readonly reason: string }
  | {
      readonly kind: 'drainNode';
      readonly nodeId: NodeId;
      readonly order: DrainOrder;
      readonly request: number | null;
    }
  | { readonly kind: 'nodeOverdue'; readonly nodeId: NodeId }
  | { readonly kind: 'workerStarted'; readonly workerId: WorkerId; readonly address: Address; readonly pid: number }
  | {
      readonly kind: 'workerFailed';
      readonly workerId: WorkerId;
      readonly error: RayliteError;
      readonly cause: Uint8Array;
      readonly isFinal: boolean;
    }
  | { readonly kind: 'workerBlocked'; readonly workerId: WorkerId; readonly isBlocked: boolean }
  | { readonly kind: 'workerExited'; readonly workerId: WorkerId; readonly end: WorkerEnd }
  | { readonly kind: 'clientJoined'; readonly client: ClientRecord; readonly entrypoint: string }
  | { readonly kind: 'clientLeft'; readonly workerId: WorkerId; readonly isClean: boolean }
  | { readonly kind: 'createActor'; readonly actor: ActorRequest; readonly request: number | null }
  | {
      readonly kind: 'killActor';
      readonly actorId: ActorId;
      readonly how: { readonly noRestart: boolean; readonly graceMs: number; readonly incarnation: number };
      readonly request: number | null;
    }
  | { readonly kind: 'requestLease'; readonly lease: LeaseRequest; readonly request: number | null }
  | {
      readonly kind: 'returnLease';
      readonly leaseId: LeaseId;
      readonly worker: { readonly isBroken: boolean; readonly force: boolean };
      readonly request: number | null;
    }
  | { readonly kind: 'createGroup'; readonly group: GroupRequest; readonly request: number | null }
  | { readonly kind: 'awaitGroup'; readonly groupId: GroupId; readonly request: number }
  | { readonly kind: 'removeGroup'; readonly groupId: GroupId; readonly request: number | null }
  | { readonly kind: 'submitJob'; readonly job: JobRequest; readonly request: number | null }
  | { readonly kind: 'stopJob'; readonly jobId: JobId; readonly request: number | null }
  | { readonly kind: 'deleteJob'; readonly jobId: JobId; readonly request: number | null }
  | {
      readonly kind: 'jobExited';
      readonly jobId: JobId;
      readonly exitCode: number;
      readonly signal: string;
      readonly failure: string | null;
    };

/** Applies one event to `state` and returns the work it causes, in order. `atMs` is when it happened. */
export function step(state: ClusterState, event: ClusterEvent, atMs: number): readonly Effect[] {
  switch (event.kind) {
    case 'nodeJoined':
      return nodeJoined(state, event.facts, { workers: event.workers, jobs: event.jobs }, atMs);
    case 'nodeBeat':
      return nodeBeat(state, event.nodeId, event.beat, atMs);
    case 'nodeAway':
      return nodeAway(state, event.nodeId);
    case 'nodeLost':
      return nodeLost(state, event.nodeId, event.reason, atMs);
    case 'drainNode':
      return drainNode(state, event.nodeId, event.order, event.request);
    case 'nodeOverdue':
      return nodeOverdue(state, event.nodeId, atMs);
    case 'workerStarted':
      return workerStarted(state, event.workerId, event.address, event.pid);
    case 'workerFailed':
      return workerFailed(state, event.workerId, event, atMs);
    case 'workerBlocked':
      return startTimes(state, workerBlocked(state, event.workerId, event.isBlocked), atMs);
    case 'workerExited':
      return workerExited(state, event.workerId, event.end, atMs);
    case 'clientJoined':
      return clientJoined(state, event.client, event.entrypoint, atMs);
    case 'clientLeft':
      return clientLeft(state, event.workerId, event.isClean, atMs);
    case 'createActor':
      return createActor(state, event.actor, event.request, atMs);
    case 'killActor':
      return killActor(state, event.actorId, event.how, event.request, atMs);
    case 'requestLease':
      return requestLease(state, event.lease, event.request);
    case 'returnLease':
      return startTimes(state, returnLease(state, event.leaseId, event.worker, event.request), atMs);
    case 'createGroup':
      return startTimes(state, createGroup(state, event.group, event.request, atMs), atMs);
    case 'awaitGroup':
      return awaitGroup(state, event.groupId, event.request);
    case 'removeGroup':
      return startTimes(state, removeGroup(state, event.groupId, event.request, atMs), atMs);
    case 'submitJob':
      return submitJob(state, event.job, event.request, atMs);
    case 'stopJob':
      return stopJob(state, event.jobId, event.request, atMs);
    case 'deleteJob': {
      const job = state.jobs.get(event.jobId);
      const done: Effect = { kind: 'answer', request: event.request, answer: { kind: 'done' } };
      return job && isEnded(job) ? [...deleteJob(state, event.jobId), done] : [done];
    }
    case 'jobExited': {
      const job = state.jobs.get(event.jobId);
      return job ? jobExited(state, job, event, atMs) : [];
    }
  }
}
