// What keeps the workers of a node within its memory: the watch over all of them, and the limit of each that asked for so much.
import { type NodeId, numberSetting, OutOfMemoryError, type WorkerId } from '../common/index.js';
import type { Log } from '../observe/index.js';
import { failureOf, type wire } from '../protocol/index.js';
import { readGroupMemory, readMemoryUsage } from './memory-usage.js';
import type { MemoryUser } from './memory-victims.js';
import { MemoryWatch } from './memory-watch.js';
import { WorkerCgroups } from './worker-cgroups.js';
import type { WorkerPool } from './worker-pool.js';

/** As in Ray. */
const REFRESH_MS = 250;
const THRESHOLD = 0.95;

export class MemoryLimits implements Disposable {
  readonly #nodeId: NodeId;
  readonly #pool: () => WorkerPool;
  readonly #cgroups: WorkerCgroups;
  readonly #watch: MemoryWatch;
  readonly #pids = new Map<string, { readonly pid: number; readonly name: string }>();

  constructor(at: {
    readonly nodeId: NodeId;
    readonly name: string;
    readonly pool: () => WorkerPool;
    readonly log: Log;
  }) {
    this.#nodeId = at.nodeId;
    this.#pool = at.pool;
    this.#cgroups = WorkerCgroups.open(at.name);
    at.log.info('limits of workers', { memory: this.#cgroups.kind.detail });
    const places = { meminfo: process.env.RAYLITE_MEMINFO || '/proc/meminfo', cgroups: '/sys/fs/cgroup' };
    this.#watch = new MemoryWatch(
      {
        nodeId: at.nodeId,
        threshold: numberSetting('RAYLITE_MEMORY_USAGE_THRESHOLD', THRESHOLD, { max: 1 }),
        usage: () => readMemoryUsage(places),
        users: () => this.#users(),
        end: ({ workerId }, error) => this.#pool().end(workerId, error),
        log: at.log,
      },
      numberSetting('RAYLITE_MEMORY_MONITOR_REFRESH_MS', REFRESH_MS),
    );
  }

  /** What must go with the agent. */
  get folders(): readonly string[] {
    return this.#cgroups.folders;
  }

  /** A process begins what it was assigned: from here on it has what was asked for. */
  hold({ workerId, resources, actor }: wire.StartWorker, pid: number): void {
    this.#pids.set(workerId, { pid, name: actor?.className ?? '' });
    const { memory = 0, CPU = 0 } = resources?.amounts ?? {};
    this.#cgroups.limit(workerId, pid, { memoryBytes: memory, cpus: CPU });
  }

  /** The news of an end; says so where it was the worker's own limit. */
  explained(exited: wire.WorkerExited.$Properties): wire.WorkerExited.$Properties {
    const workerId = (exited.workerId ?? '') as WorkerId;
    const reached = this.#cgroups.memoryEnd(workerId);
    const { pid, name } = this.#pids.get(workerId) ?? { pid: 0, name: '' };
    this.#pids.delete(workerId);
    this.#cgroups.remove(workerId);
    if (!reached || exited.cause) return exited;
    const { limitBytes } = reached;
    const error = new OutOfMemoryError({
      nodeId: this.#nodeId,
      workerId,
      pid,
      name,
      workerBytes: limitBytes,
      usedBytes: limitBytes,
      totalBytes: limitBytes,
      detail: 'it reached the limit that it asked for as "memory"',
      endedBy: 'limit',
      workers: [],
    });
    return { ...exited, cause: failureOf(error) };
  }

  #users(): readonly MemoryUser[] {
    const running = this.#pool().assignments();
    const bytes = readGroupMemory(new Set(running.map(({ pid }) => pid)));
    return running.map(({ assignment, pid, startedAtMs }) => ({
      workerId: assignment.workerId as WorkerId,
      pid,
      name: assignment.actor?.className ?? '',
      startedAtMs,
      isRetriable: assignment.isRetriable,
      bytes: bytes.get(pid) ?? 0,
    }));
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#cgroups.close();
  }
}
