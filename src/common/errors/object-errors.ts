// An object has no value any more, or there is no room for it.
import type { NodeId, ObjectId } from '../ids.js';
import { RayliteError } from './base.js';

/** The last copy is gone and its task may not run again. */
export class ObjectLostError extends RayliteError {
  readonly code = 'RAYLITE_OBJECT_LOST';
  readonly objectId: ObjectId;
  readonly detail: string;
  constructor(facts: { objectId: ObjectId; detail: string }, options?: ErrorOptions) {
    super(`object ${facts.objectId} was lost: ${facts.detail}`, options);
    this.objectId = facts.objectId;
    this.detail = facts.detail;
  }
}

/** All copies of the object are lost and it cannot be made again; `reason` says why not: only results of tasks with retries can. */
export class ObjectReconstructionFailedError extends RayliteError {
  readonly code = 'RAYLITE_RECONSTRUCTION_FAILED';
  readonly objectId: ObjectId;
  /** It was put; an actor made it; no retries of its task are left; the call of its task was forgotten; its generator gave less when it ran again. */
  readonly reason: 'put' | 'actor' | 'retries' | 'lineage' | 'replay';
  readonly detail: string;
  constructor(
    facts: { objectId: ObjectId; reason: ObjectReconstructionFailedError['reason']; detail: string },
    options?: ErrorOptions,
  ) {
    super(`object ${facts.objectId} was lost and cannot be made again: ${facts.detail}`, options);
    this.objectId = facts.objectId;
    this.reason = facts.reason;
    this.detail = facts.detail;
  }
}

/** The process that owned the object ended, and the object with it. */
export class OwnerDiedError extends RayliteError {
  readonly code = 'RAYLITE_OWNER_DIED';
  readonly objectId: ObjectId;
  constructor(facts: { objectId: ObjectId }, options?: ErrorOptions) {
    super(`object ${facts.objectId} is gone: the process that made it has ended`, options);
    this.objectId = facts.objectId;
  }
}

/** The object store of a node is full and nothing can be freed. */
export class StoreFullError extends RayliteError {
  readonly code = 'RAYLITE_STORE_FULL';
  override readonly isRetryable = true;
  readonly nodeId: NodeId;
  readonly requestedBytes: number;
  readonly capacityBytes: number;
  constructor(facts: { nodeId: NodeId; requestedBytes: number; capacityBytes: number }, options?: ErrorOptions) {
    super(
      `the object store of node ${facts.nodeId} has no room for ${facts.requestedBytes} bytes (capacity ${facts.capacityBytes}): ` +
        (facts.requestedBytes > facts.capacityBytes
          ? 'cut the value into several, or start the node with a larger --object-store-memory'
          : 'what is in it is being read. Let go of values you no longer need, or start the node with a larger --object-store-memory'),
      options,
    );
    this.nodeId = facts.nodeId;
    this.requestedBytes = facts.requestedBytes;
    this.capacityBytes = facts.capacityBytes;
  }
}

/** Objects had to move from the store to disk, which has no room or refuses. What is in the store stays readable. */
export class OutOfDiskError extends RayliteError {
  readonly code = 'RAYLITE_OUT_OF_DISK';
  override readonly isRetryable = true;
  readonly nodeId: NodeId;
  readonly folder: string;
  readonly requestedBytes: number;
  readonly detail: string;
  constructor(
    facts: { nodeId: NodeId; folder: string; requestedBytes: number; detail: string },
    options?: ErrorOptions,
  ) {
    super(
      `the object store of node ${facts.nodeId} is full, and ${facts.requestedBytes} bytes of it cannot be moved to ${facts.folder}: ${facts.detail}. ` +
        'Make room there, set RAYLITE_SPILL_DIR to another disk, or release refs you no longer need',
      options,
    );
    this.nodeId = facts.nodeId;
    this.folder = facts.folder;
    this.requestedBytes = facts.requestedBytes;
    this.detail = facts.detail;
  }
}
