// Every error that raylite itself raises: class, stable code, what happened, whether to try again, what the user can do.
// Facts are fields; the message is built from them. Never match on text: match on `code` or the class.

import type { ActorId, GroupId, NodeId, ObjectId, TaskId, WorkerId } from './ids.js';
import { formatBytes } from './resources.js';

/** Base of all errors of raylite. `isRetryable` says whether the same call may succeed if made again unchanged. */
export abstract class RayliteError extends Error {
  abstract readonly code: string;
  readonly isRetryable: boolean = false;
  override get name(): string {
    return this.constructor.name;
  }
}

/** A value that the user gave is not what was expected. Raised before anything is started or allocated. */
export class ConfigError extends RayliteError {
  readonly code = 'RAYLITE_CONFIG';
  readonly path: string;
  readonly expected: string;
  readonly received: unknown;
  constructor(path: string, expected: string, received: unknown, hint?: string, options?: ErrorOptions) {
    super(`${path}: expected ${expected}, got ${show(received)}${hint ? `. ${hint}` : ''}`, options);
    this.path = path;
    this.expected = expected;
    this.received = received;
  }
}

/** User code threw. `cause` is what it threw, rebuilt with its name, message, own fields and remote stack. */
export class TaskError extends RayliteError {
  readonly code = 'RAYLITE_TASK';
  readonly functionName: string;
  readonly workerId: WorkerId | null;
  readonly nodeId: NodeId | null;
  constructor(
    facts: { functionName: string; workerId: WorkerId | null; nodeId: NodeId | null },
    options?: ErrorOptions,
  ) {
    const cause = options?.cause;
    super(
      `${facts.functionName} failed: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : show(cause)}`,
      options,
    );
    this.functionName = facts.functionName;
    this.workerId = facts.workerId;
    this.nodeId = facts.nodeId;
  }
}

/** The process that ran a task ended before the result came back. Retried up to `maxRetries` before it is thrown. */
export class WorkerCrashedError extends RayliteError {
  readonly code = 'RAYLITE_WORKER_CRASHED';
  override readonly isRetryable = true;
  readonly workerId: WorkerId;
  readonly nodeId: NodeId;
  readonly detail: string;
  /** Null where a signal ended it, or where that is not known. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly lastLogLines: readonly string[];
  constructor(
    facts: {
      workerId: WorkerId;
      nodeId: NodeId;
      detail: string;
      exitCode?: number | null;
      signal?: string | null;
      lastLogLines?: readonly string[];
    },
    options?: ErrorOptions,
  ) {
    super(
      `worker ${facts.workerId} on node ${facts.nodeId} ended before it answered: ${facts.detail}${lastOutput(facts.lastLogLines)}`,
      options,
    );
    this.workerId = facts.workerId;
    this.nodeId = facts.nodeId;
    this.detail = facts.detail;
    this.exitCode = facts.exitCode ?? null;
    this.signal = facts.signal ?? null;
    this.lastLogLines = facts.lastLogLines ?? [];
  }
}

/** The actor is gone for good. `detail` says why: killed, constructor threw, restarts used up, owner ended, node lost. */
export class ActorDiedError extends RayliteError {
  readonly code = 'RAYLITE_ACTOR_DIED';
  readonly actorId: ActorId;
  readonly className: string;
  readonly detail: string;
  readonly lastLogLines: readonly string[];
  constructor(
    facts: { actorId: ActorId; className: string; detail: string; lastLogLines?: readonly string[] },
    options?: ErrorOptions,
  ) {
    super(
      `actor ${facts.className} (${facts.actorId}) is dead: ${facts.detail}${lastOutput(facts.lastLogLines)}`,
      options,
    );
    this.actorId = facts.actorId;
    this.className = facts.className;
    this.detail = facts.detail;
    this.lastLogLines = facts.lastLogLines ?? [];
  }
}

/** The actor's process ended or cannot be reached while a call was in flight; it may be restarting. The call may or may not have run. */
export class ActorUnavailableError extends RayliteError {
  readonly code = 'RAYLITE_ACTOR_UNAVAILABLE';
  override readonly isRetryable = true;
  readonly actorId: ActorId;
  readonly detail: string;
  constructor(facts: { actorId: ActorId; detail: string }, options?: ErrorOptions) {
    super(
      `actor ${facts.actorId} is unavailable: ${facts.detail}. The call may have run; call again once it answers, or set maxTaskRetries`,
      options,
    );
    this.actorId = facts.actorId;
    this.detail = facts.detail;
  }
}

/** This process has as many calls of the actor open as `maxPendingCalls` allows; the call was not made. */
export class PendingCallsLimitError extends RayliteError {
  readonly code = 'RAYLITE_PENDING_CALLS_LIMIT';
  override readonly isRetryable = true;
  readonly actorId: ActorId;
  readonly className: string;
  readonly maxPendingCalls: number;
  constructor(facts: { actorId: ActorId; className: string; maxPendingCalls: number }, options?: ErrorOptions) {
    super(
      `actor ${facts.className} (${facts.actorId}) has ${facts.maxPendingCalls} calls of this process waiting, as many as maxPendingCalls allows. Await some of them first`,
      options,
    );
    this.actorId = facts.actorId;
    this.className = facts.className;
    this.maxPendingCalls = facts.maxPendingCalls;
  }
}

/** A queue had no room for the items in the time given; none was put. */
export class QueueFullError extends RayliteError {
  readonly code = 'RAYLITE_QUEUE_FULL';
  override readonly isRetryable = true;
  readonly size: number;
  readonly itemCount: number;
  constructor(facts: { size: number; itemCount: number }, options?: ErrorOptions) {
    super(`the queue holds ${facts.size} items and had no room for ${facts.itemCount} more in time`, options);
    this.size = facts.size;
    this.itemCount = facts.itemCount;
  }
}

/** A queue did not have as many items in the time given; none was taken. */
export class QueueEmptyError extends RayliteError {
  readonly code = 'RAYLITE_QUEUE_EMPTY';
  override readonly isRetryable = true;
  readonly size: number;
  readonly itemCount: number;
  constructor(facts: { size: number; itemCount: number }, options?: ErrorOptions) {
    super(
      `the queue holds ${facts.size} items, and ${facts.itemCount} were asked for and did not come in time`,
      options,
    );
    this.size = facts.size;
    this.itemCount = facts.itemCount;
  }
}

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

/** Memory was short, on the node or within the worker's own limit, and the process that ran this was ended for it. */
export class OutOfMemoryError extends RayliteError {
  readonly code = 'RAYLITE_OUT_OF_MEMORY';
  override readonly isRetryable = true;
  readonly nodeId: NodeId;
  readonly workerId: WorkerId;
  readonly pid: number;
  readonly workerBytes: number;
  /** Of the node; or of the worker and its limit, where that was reached. */
  readonly usedBytes: number;
  readonly totalBytes: number;
  readonly detail: string;
  /** The largest workers of the node at that moment. */
  readonly workers: readonly MemoryHolder[];
  constructor(
    facts: {
      nodeId: NodeId;
      workerId: WorkerId;
      pid: number;
      name: string;
      workerBytes: number;
      usedBytes: number;
      totalBytes: number;
      detail: string;
      workers: readonly MemoryHolder[];
    },
    options?: ErrorOptions,
  ) {
    const table = facts.workers.map(
      ({ workerId, pid, name, bytes }) =>
        `\n  ${formatBytes(bytes).padStart(10)}  pid ${pid}  ${name || 'tasks'}  ${workerId}`,
    );
    super(
      `memory is short on node ${facts.nodeId} (${formatBytes(facts.usedBytes)} of ${formatBytes(facts.totalBytes)}): worker ${facts.workerId} ` +
        `(pid ${facts.pid}${facts.name ? `, ${facts.name}` : ''}) with ${formatBytes(facts.workerBytes)} was ended, since ${facts.detail}. ` +
        `Run less at a time (ask for more "cpus" or "memory" each), or make it need less.${table.length > 0 ? `\n  workers there:${table.join('')}` : ''}`,
      options,
    );
    this.nodeId = facts.nodeId;
    this.workerId = facts.workerId;
    this.pid = facts.pid;
    this.workerBytes = facts.workerBytes;
    this.usedBytes = facts.usedBytes;
    this.totalBytes = facts.totalBytes;
    this.detail = facts.detail;
    this.workers = facts.workers;
  }
}

export interface MemoryHolder {
  readonly workerId: WorkerId;
  readonly pid: number;
  /** Class of an actor, or empty. */
  readonly name: string;
  readonly bytes: number;
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

/** No node of the cluster could ever hold the request. `detail` says what was asked and what there is. */
export class InfeasibleError extends RayliteError {
  readonly code = 'RAYLITE_INFEASIBLE';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
  }
}

/** The placement group is gone: it was removed, or its creator or job ended. Work that was to run in it never will. */
export class PlacementGroupRemovedError extends RayliteError {
  readonly code = 'RAYLITE_PLACEMENT_GROUP_REMOVED';
  readonly groupId: GroupId;
  constructor(facts: { groupId: GroupId }, options?: ErrorOptions) {
    super(`placement group ${facts.groupId} was removed, or never was`, options);
    this.groupId = facts.groupId;
  }
}

/** The task was cancelled. */
export class CancelledError extends RayliteError {
  readonly code = 'RAYLITE_CANCELLED';
  readonly taskId: TaskId | null;
  constructor(facts: { taskId: TaskId | null }, options?: ErrorOptions) {
    super('the task was cancelled', options);
    this.taskId = facts.taskId;
  }
}

/** `get` waited longer than its `timeoutMs`. */
export class GetTimeoutError extends RayliteError {
  readonly code = 'RAYLITE_GET_TIMEOUT';
  override readonly isRetryable = true;
  readonly timeoutMs: number;
  constructor(facts: { timeoutMs: number }, options?: ErrorOptions) {
    super(`no result within ${facts.timeoutMs} ms`, options);
    this.timeoutMs = facts.timeoutMs;
  }
}

/** A value cannot travel between processes: a function, a symbol, a socket handle. `path` is the place inside the value. */
export class SerializationError extends RayliteError {
  readonly code = 'RAYLITE_SERIALIZATION';
  /** "args[0].model.hooks[2]" */
  readonly path: string;
  /** @param facts `of`: the call whose argument or result it is; empty outside calls */
  constructor(facts: { path: string; detail: string; of?: string }, options?: ErrorOptions) {
    const where = facts.of ? `${facts.path} of ${facts.of}` : facts.path;
    super(`${where} cannot be sent to another process: ${facts.detail}`, options);
    this.path = facts.path;
  }
}

/** A function or class cannot be found by workers: it is not exported from a module, or the module cannot be loaded. */
export class CodeNotFoundError extends RayliteError {
  readonly code = 'RAYLITE_CODE_NOT_FOUND';
  readonly functionName: string;
  constructor(facts: { functionName: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.functionName}: ${facts.detail}`, options);
    this.functionName = facts.functionName;
  }
}

/** The environment of a task or actor could not be made: its `setup` threw (`cause`) or cannot be found. Nothing of it ran. */
export class RuntimeEnvSetupError extends RayliteError {
  readonly code = 'RAYLITE_RUNTIME_ENV_SETUP';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(`the runtime environment could not be set up: ${facts.detail}`, options);
    this.detail = facts.detail;
  }
}

/** The cluster cannot be reached, refused the token, or runs another version. `detail` says which and what to do. */
export class ConnectionError extends RayliteError {
  readonly code = 'RAYLITE_CONNECTION';
  readonly address: string;
  readonly detail: string;
  constructor(facts: { address: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.address}: ${facts.detail}`, options);
    this.address = facts.address;
    this.detail = facts.detail;
  }
}

/** The head cannot use its saved state: it is damaged, or another head has it open. Nothing was changed on disk. */
export class HeadStateError extends RayliteError {
  readonly code = 'RAYLITE_HEAD_STATE';
  readonly stateDir: string;
  readonly detail: string;
  constructor(facts: { stateDir: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.stateDir}: ${facts.detail}`, options);
    this.stateDir = facts.stateDir;
    this.detail = facts.detail;
  }
}

/** A file or record that the user gave is malformed. `place` is "file:line" or "file: tensor". */
export class DataError extends RayliteError {
  readonly code = 'RAYLITE_DATA';
  readonly place: string;
  readonly detail: string;
  constructor(facts: { place: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.place}: ${facts.detail}`, options);
    this.place = facts.place;
    this.detail = facts.detail;
  }
}

/** The native engine refused a plan, met a non-finite loss, or a collective failed. `rank` names the late or dead one where known. */
export class EngineError extends RayliteError {
  readonly code = 'RAYLITE_ENGINE';
  readonly detail: string;
  readonly rank: number | null;
  constructor(facts: { detail: string; rank?: number | null }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
    this.rank = facts.rank ?? null;
  }
}

/**
 * A training run ended without finishing: its workers failed more often than `maxFailures` allows, or there was no room for others within
 * `joinTimeoutSeconds`.
 */
export class TrainingError extends RayliteError {
  readonly code = 'RAYLITE_TRAINING';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
  }
}

const lastOutput = (lines: readonly string[] = []): string =>
  lines.length > 0 ? `\nIts last output:\n${lines.map((line) => `  ${line}`).join('\n')}` : '';

/** A short, single-line rendering of any value for messages. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value); // JSON has no NaN
  if (typeof value === 'function') return `the function ${value.name || 'without a name'}`;
  const text = typeof value === 'string' ? JSON.stringify(value) : (safeJson(value) ?? String(value));
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

function safeJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // cycles and bigints have no JSON
  }
}
