// What a rule answers and has the server do.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, RayliteError, WorkerId } from '../common/index.js';
import type { Address, WorkerEnd } from './entities.js';

export type Table = 'node' | 'actor' | 'lease' | 'job' | 'group';

export type Answer =
  | { readonly kind: 'done' }
  | { readonly kind: 'actor'; readonly actorId: ActorId }
  | { readonly kind: 'lease'; readonly leaseId: LeaseId; readonly address: Address }
  | { readonly kind: 'group'; readonly groupId: GroupId }
  | { readonly kind: 'workerEnd'; readonly end: WorkerEnd }
  | { readonly kind: 'failure'; readonly error: RayliteError };

/** What the server is to do, in this order. `save` and `forget` come first wherever an answer depends on them. */
export type Effect =
  | { readonly kind: 'save'; readonly table: Table; readonly id: string }
  | { readonly kind: 'forget'; readonly table: Table; readonly id: string }
  | { readonly kind: 'startWorker'; readonly nodeId: NodeId; readonly workerId: WorkerId; readonly incarnation: number }
  | {
      readonly kind: 'stopWorker';
      readonly nodeId: NodeId;
      readonly workerId: WorkerId;
      readonly force: boolean;
      readonly reason: string;
      /** Milliseconds that an actor has to end what it was asked for. */
      readonly graceMs?: number;
    }
  | { readonly kind: 'startJob'; readonly nodeId: NodeId; readonly jobId: JobId }
  | { readonly kind: 'stopJob'; readonly nodeId: NodeId; readonly jobId: JobId }
  /** To all nodes: what this process owned, wherever it lies, is nobody's. */
  | { readonly kind: 'ownerGone'; readonly workerId: WorkerId }
  /** To the holder of leases: others wait for room, so that it should not keep what it does not use. */
  | { readonly kind: 'leasesWanted'; readonly ownerId: WorkerId }
  | { readonly kind: 'freeNode'; readonly nodeId: NodeId; readonly reason: string; readonly isDrained: boolean }
  /** To all drivers and workers: which nodes are to leave. */
  | { readonly kind: 'nodesDraining' }
  | { readonly kind: 'actorChanged'; readonly actorId: ActorId }
  | { readonly kind: 'jobChanged'; readonly jobId: JobId }
  | { readonly kind: 'answer'; readonly request: number | null; readonly answer: Answer };
