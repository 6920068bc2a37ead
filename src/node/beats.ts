// What a node tells the head of itself every second: how busy it is, what its processes and GPUs take, and what it keeps for others.
import { cpus, freemem, totalmem } from 'node:os';
import type { NativeArena } from '../native/index.js';
import type { wire } from '../protocol/index.js';
import type { CallLog } from './call-log.js';
import type { GpuWatch } from './gpu-watch.js';
import type { LocalServer } from './local-server.js';
import type { ObjectIndex } from './object-index.js';
import { ProcessUses } from './process-use.js';
import type { WorkerPool } from './worker-pool.js';

const BEAT_MS = 1_000;

/** What a beat tells of, and how it is sent. */
export interface BeatSources {
  readonly arena: NativeArena;
  readonly index: ObjectIndex;
  readonly local: LocalServer;
  readonly pool: WorkerPool;
  readonly calls: CallLog;
  readonly gpuWatch: GpuWatch;
  readonly gpuIds: readonly string[];
  readonly send: (beat: wire.NodeBeat.$Properties) => void;
}

export class Beats implements Disposable {
  readonly #sources: BeatSources;
  readonly #uses = new ProcessUses();
  #timer: NodeJS.Timeout | null = null;
  #lastCpu = cpuTimes();
  #countsKept = false;

  constructor(sources: BeatSources) {
    this.#sources = sources;
  }

  start(): void {
    this.send();
    this.#timer = setInterval(() => this.send(), BEAT_MS);
  }

  /** From here on a beat tells how many objects of owners elsewhere there are: the node is to leave. */
  countKept(): void {
    this.#countsKept = true;
    this.send();
  }

  /** One between two others. */
  send(): void {
    const { arena, index, local, pool, gpuWatch, gpuIds, send } = this.#sources;
    const now = cpuTimes();
    const busy = now.busy - this.#lastCpu.busy;
    const all = now.all - this.#lastCpu.all;
    this.#lastCpu = now;
    send({
      cpuPercent: all > 0 ? (100 * busy) / all : 0,
      memoryUsedBytes: totalmem() - freemem(),
      memoryTotalBytes: totalmem(),
      storeUsedBytes: index.usedBytes,
      storeTotalBytes: arena.bytes,
      workerCount: pool.count,
      ...(this.#countsKept && { keptForOthers: index.keptFor((ownerId) => !local.has(ownerId)) }),
      workers: this.#workerUses(),
      gpus: gpuWatch.uses(gpuIds),
    });
  }

  [Symbol.dispose](): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  #workerUses(): wire.WorkerUse.$Properties[] {
    const { pool, calls } = this.#sources;
    const running = pool.assignments();
    const uses = this.#uses.look(running.map(({ pid }) => pid));
    return running.map(({ assignment, pid, startedAtMs }) => ({
      workerId: assignment.workerId,
      pid,
      name: assignment.actor?.className ?? '',
      actorId: assignment.actor?.actorId ?? '',
      jobId: assignment.jobId,
      running: [...calls.running(assignment.workerId)],
      startedMs: startedAtMs,
      ...uses.get(pid),
    }));
  }
}

function cpuTimes(): { readonly busy: number; readonly all: number } {
  let busy = 0;
  let all = 0;
  for (const { times } of cpus()) {
    const total = times.user + times.nice + times.sys + times.idle + times.irq;
    busy += total - times.idle;
    all += total;
  }
  return { busy, all };
}
