// A call has no result: its code threw, it was cancelled, took too long, or what was to run it is gone.
import type { NodeId, TaskId, WorkerId } from '../ids.js';
import { formatBytes } from '../resources.js';
import { lastOutput, RayliteError, show } from './base.js';

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

/** The environment of a task or actor could not be made: its `setup` threw (`cause`) or cannot be found. Nothing of it ran. */
export class RuntimeEnvSetupError extends RayliteError {
  readonly code = 'RAYLITE_RUNTIME_ENV_SETUP';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(`the runtime environment could not be set up: ${facts.detail}`, options);
    this.detail = facts.detail;
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
  /** watch: that over the memory of its node; limit: its own, which it asked for as "memory". */
  readonly endedBy: 'watch' | 'limit';
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
      endedBy: 'watch' | 'limit';
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
    this.endedBy = facts.endedBy;
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
