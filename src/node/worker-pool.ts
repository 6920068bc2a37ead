// The worker processes of a node: some kept warm, each given once to an actor or a lease, each exit reported.
//
//   starting ─ready→ warm ─assign→ assigned ─ready→ serving        any ─exit→ (gone)
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newWorkerId, type RayliteError, type WorkerId } from '../common/index.js';
import type { Log } from '../observe/index.js';
import { failureOf, type wire } from '../protocol/index.js';
import { LogLines } from './log-lines.js';
import { killGroup, spawnBound } from './spawn-bound.js';

/** The agent's side of a worker's socket. */
export interface WorkerSocket {
  assign(assignment: wire.StartWorker.$Properties): void;
  exit(reason: string, graceful: boolean): void;
}

export interface WorkerNews {
  started(workerId: WorkerId, address: wire.WorkerAddress.$Properties, pid: number): void;
  failed(workerId: WorkerId, failure: wire.Failure.$Properties): void;
  exited(exit: wire.WorkerExited.$Properties): void;
  lines(lines: wire.LogLines.$Properties): void;
  /** A process is to run what `assignment` says; called before it does. */
  assigned(assignment: wire.StartWorker, pid: number): void;
}

interface Worker {
  readonly spawnId: WorkerId;
  readonly child: ChildProcess;
  log: LogLines;
  socket: WorkerSocket | null;
  address: wire.WorkerAddress.$Properties | null;
  assignment: wire.StartWorker | null;
  isReady: boolean; // warm, and after the assignment: serving
  isIntended: boolean;
  /** Asked to end: it has this long. */
  ending: NodeJS.Timeout | null;
  /** Its lease has ended, but others borrow objects of it. */
  isLingering: boolean;
  hasFailed: boolean;
  assignedAtMs: number;
  /** Why we ended it. */
  cause: RayliteError | null;
}

const STOP_MS_MAX = 3_000;

export class WorkerPool {
  readonly #bootFile: string;
  readonly #sessionDir: string;
  readonly #warmCount: number;
  readonly #umask: number;
  readonly #news: WorkerNews;
  readonly #log: Log;
  readonly #workers = new Map<WorkerId, Worker>(); // by spawn id
  readonly #waiting: wire.StartWorker[] = [];
  #isOpen = false;
  #isClosed = false;
  #failedStarts = 0;

  constructor(options: {
    readonly bootFile: string;
    readonly sessionDir: string;
    readonly warmCount: number;
    readonly news: WorkerNews;
    readonly log: Log;
    /** Of the worker processes. */
    readonly umask: number;
  }) {
    this.#bootFile = options.bootFile;
    this.#sessionDir = options.sessionDir;
    this.#warmCount = options.warmCount;
    this.#news = options.news;
    this.#log = options.log;
    this.#umask = options.umask;
  }

  /** Starts workers that wait for work, from now on. */
  open(): void {
    this.#isOpen = true;
    this.#refill();
  }

  /** Gives a worker to what the head asks for, warm if there is one. */
  start(assignment: wire.StartWorker): void {
    this.#waiting.push(assignment);
    this.#match();
  }

  /** @param how `graceMs` not 0: an actor ends what it was asked for and runs its exit hooks, for so long at most */
  stop(
    workerId: WorkerId,
    { force, reason, graceMs }: { readonly force: boolean; readonly reason: string; readonly graceMs: number },
  ): void {
    const queued = this.#waiting.findIndex((waiting) => waiting.workerId === workerId);
    if (queued >= 0) {
      this.#waiting.splice(queued, 1);
      this.#news.exited({ workerId, exitCode: 0, isIntended: true });
      return;
    }
    const worker = this.#assigned(workerId);
    if (!worker) return;
    worker.isIntended = !force || worker.isIntended || reason !== 'it was killed';
    if (force) killGroup(worker.child, 'SIGKILL');
    else {
      worker.socket?.exit(reason, graceMs > 0);
      worker.ending ??= setTimeout(() => killGroup(worker.child, 'SIGKILL'), graceMs || STOP_MS_MAX).unref();
    }
  }

  /** Passes on at once what workers have written so far. */
  flushLogs(): void {
    for (const { log } of this.#workers.values()) log.flush();
  }

  /** A worker has attached. Null when this pool did not start it. */
  attached(spawnId: WorkerId, socket: WorkerSocket): boolean {
    const worker = this.#workers.get(spawnId);
    if (!worker || worker.socket) return false;
    worker.socket = socket;
    return true;
  }

  ready(spawnId: WorkerId, address: wire.WorkerAddress.$Properties, failure: wire.Failure.$Properties | null): void {
    const worker = this.#workers.get(spawnId);
    if (!worker) return;
    worker.address = address;
    if (!worker.assignment) {
      worker.isReady = true;
      this.#failedStarts = 0;
      this.#match();
      return;
    }
    const workerId = worker.assignment.workerId as WorkerId;
    if (failure) {
      worker.hasFailed = true;
      worker.isIntended = true;
      this.#news.failed(workerId, failure);
      killGroup(worker.child, 'SIGKILL');
    } else {
      worker.isReady = true;
      this.#news.started(workerId, { ...address, workerId }, worker.child.pid ?? 0);
    }
  }

  exiting(spawnId: WorkerId): void {
    const worker = this.#workers.get(spawnId);
    if (worker) worker.isIntended = true;
  }

  /** It ends by itself once nobody borrows its objects. */
  lingering(spawnId: WorkerId): void {
    const worker = this.#workers.get(spawnId);
    if (!worker) return;
    worker.isLingering = true;
    if (worker.ending) clearTimeout(worker.ending);
  }

  /** Whether this pool has, or had been asked for, that worker. */
  has(workerId: WorkerId): boolean {
    return this.#waiting.some((waiting) => waiting.workerId === workerId) || this.#assigned(workerId) !== undefined;
  }

  /** What runs or is about to, for a head that has come back; the cluster has no use for one that lingers. */
  running(): readonly wire.RunningWorker.$Properties[] {
    return [
      ...[...this.#workers.values()].flatMap(({ address, assignment, child, isReady, isLingering }) =>
        assignment && !isLingering ? [runningOf(assignment, isReady ? address : null, child.pid ?? 0)] : [],
      ),
      ...this.#waiting.map((assignment) => runningOf(assignment, null, 0)),
    ];
  }
  get count(): number {
    return this.#workers.size;
  }

  /** What runs and since when. */
  assignments(): readonly {
    readonly assignment: wire.StartWorker;
    readonly pid: number;
    readonly startedAtMs: number;
  }[] {
    return [...this.#workers.values()].flatMap(({ assignment, child, assignedAtMs }) =>
      assignment && child.pid !== undefined ? [{ assignment, pid: child.pid, startedAtMs: assignedAtMs }] : [],
    );
  }

  /** What the process with this spawn id serves. */
  assignmentOf(spawnId: WorkerId): { readonly assignment: wire.StartWorker; readonly pid: number } | null {
    const worker = this.#workers.get(spawnId);
    return worker?.assignment ? { assignment: worker.assignment, pid: worker.child.pid ?? 0 } : null;
  }

  /** Ends a worker by force; what it runs hears of `cause`. */
  end(workerId: WorkerId, cause: RayliteError): void {
    const worker = this.#assigned(workerId);
    if (!worker) return;
    worker.cause = cause;
    killGroup(worker.child, 'SIGKILL');
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const workers = [...this.#workers.values()];
    for (const { child } of workers) killGroup(child, 'SIGKILL');
    await Promise.all(workers.map(({ log }) => log.ended));
  }

  #assigned(workerId: WorkerId): Worker | undefined {
    return [...this.#workers.values()].find(({ assignment }) => assignment?.workerId === workerId);
  }

  #match(): void {
    for (const worker of this.#workers.values()) {
      if (this.#waiting.length === 0) break;
      if (worker.assignment || !worker.isReady || !worker.socket) continue;
      const assignment = this.#waiting.shift()!;
      worker.assignment = assignment;
      worker.assignedAtMs = Date.now();
      worker.isReady = false;
      this.#news.assigned(assignment, worker.child.pid ?? 0);
      worker.socket.assign(assignment);
    }
    this.#refill();
  }

  /** Keeps as many workers coming as are waited for; warm ones one after the other, since nobody waits for them. */
  #refill(): void {
    if (this.#isClosed) return;
    const spare = [...this.#workers.values()].filter(({ assignment }) => !assignment);
    let missing = this.#waiting.length - spare.length;
    if (missing <= 0 && this.#isOpen && -missing < this.#warmCount && spare.every(({ isReady }) => isReady))
      missing = 1;
    for (; missing > 0; missing -= 1) this.#spawn();
  }

  #spawn(): void {
    const spawnId = newWorkerId();
    const main = fileURLToPath(new URL('../worker/main.js', import.meta.url));
    const child = spawnBound(
      process.execPath,
      [main, '--boot', this.#bootFile, '--id', spawnId],
      { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.#sessionDir },
      this.#umask,
    );
    const worker: Worker = {
      spawnId,
      child,
      log: new LogLines(
        { out: child.stdout!, error: child.stderr! },
        join(this.#sessionDir, 'logs', `worker-${spawnId}.log`),
        (lines, isError) => {
          const { assignment } = worker;
          if (!assignment) return;
          this.#news.lines({
            jobId: assignment.jobId,
            workerId: assignment.workerId,
            pid: child.pid ?? 0,
            name: assignment.actor?.className ?? '',
            lines: [...lines],
            isError,
          });
        },
      ),
      socket: null,
      address: null,
      assignment: null,
      isReady: false,
      isIntended: false,
      ending: null,
      isLingering: false,
      hasFailed: false,
      assignedAtMs: 0,
      cause: null,
    };
    this.#workers.set(spawnId, worker);
    child.on('error', (error) => this.#gone(worker, -1, error.message));
    child.on('exit', (code, signal) => {
      // Its last lines may still be in the pipe.
      worker.log.ended.then(
        () => this.#gone(worker, code ?? -1, signal ?? ''),
        () => this.#gone(worker, code ?? -1, signal ?? ''),
      );
    });
  }

  #gone(worker: Worker, exitCode: number, signal: string): void {
    if (!this.#workers.delete(worker.spawnId)) return;
    killGroup(worker.child, 'SIGKILL'); // what it may have started
    if (this.#isClosed) return;
    const { assignment, isIntended, log, cause } = worker;
    if (assignment) {
      this.#news.exited({
        workerId: assignment.workerId,
        exitCode,
        signal,
        lastLogLines: [...log.lastLines],
        isIntended,
        ...(cause ? { cause: failureOf(cause) } : {}),
      });
      this.#refill();
      return;
    }
    this.#failedStarts += 1;
    this.#log.error('a worker ended before it was ready', { exitCode, signal, lastLines: log.lastLines });
    setTimeout(() => this.#refill(), Math.min(5_000, 100 * 2 ** this.#failedStarts)).unref();
  }
}

/** @param address null: it does not serve yet */
export const runningOf = (
  { workerId, actor, leaseId, incarnation, gpus }: wire.StartWorker,
  address: wire.WorkerAddress.$Properties | null,
  pid: number,
): wire.RunningWorker.$Properties => ({
  address: { ...address, workerId },
  actorId: actor?.actorId ?? '',
  leaseId: leaseId ?? '',
  pid,
  incarnation,
  gpus,
});
