// The node agent: one machine's part of the cluster, put together from its parts, and what the head orders done.
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import {
  type ConnectionError,
  type JobId,
  type NodeBoot,
  type NodeId,
  newNodeId,
  newProcessName,
  PROTOCOL_VERSION,
  type WorkerId,
} from '../common/index.js';
import { type NativeArena, native, openGpuMonitor } from '../native/index.js';
import { type Log, openLog } from '../observe/index.js';
import type { wire } from '../protocol/index.js';
import { Beats } from './beats.js';
import { CallLog } from './call-log.js';
import { gpuIds } from './gpu-ids.js';
import { GpuWatch } from './gpu-watch.js';
import { Guard } from './guard.js';
import { HeadStream } from './head-stream.js';
import { Jobs } from './jobs.js';
import { LocalServer } from './local-server.js';
import { MemoryLimits } from './memory-limits.js';
import { ARENA_FOLDER, removeDead } from './node-files.js';
import { NpmEnvs } from './npm-envs.js';
import { ObjectIndex } from './object-index.js';
import { Packages } from './packages.js';
import { SpillFiles } from './spill-files.js';
import { TransferServer } from './transfer.js';
import { WorkerPool } from './worker-pool.js';
import { WorkerStarts } from './worker-starts.js';

const WARM_WORKERS_MAX = 4;
/** A driver frees the memory of a process within moments of its end. */
const GPU_FREE_WAIT_MS = 10_000;
/** Objects of this node that one survey names. */
const SURVEYED_OBJECTS_MAX = 10_000;

/** Why a node ends by itself. Drained: it was to leave, which is no failure. */
export interface NodeEnd {
  readonly reason: string;
  readonly isDrained: boolean;
}

/** A boot file whose head is known by now. */
export type AgentBoot = NodeBoot & { readonly headAddress: string };

export class Agent implements AsyncDisposable {
  readonly nodeId: NodeId = newNodeId();
  readonly uds: string;
  /** Settles when the node must end without being asked from here: refused, or freed by the head. */
  readonly ended: Promise<NodeEnd>;
  #end!: (end: NodeEnd) => void;
  /** It was told to leave: until when, on performance.now(), it has. */
  #leaving: { readonly message: string; readonly deadlineAtMs: number } | null = null;
  readonly #boot: AgentBoot;
  readonly #log: Log;
  readonly #name = newProcessName();
  readonly #arenaPath = join(ARENA_FOLDER, this.#name);
  readonly #arena: NativeArena;
  readonly #index: ObjectIndex;
  readonly #spill: SpillFiles;
  readonly #packages: Packages;
  readonly #npm: NpmEnvs;
  readonly #gpuIds: readonly string[];
  readonly #gpuWatch: GpuWatch;
  readonly #local: LocalServer;
  readonly #pool: WorkerPool;
  readonly #jobs: Jobs;
  readonly #limits: MemoryLimits;
  readonly #calls = new CallLog();
  readonly #head: HeadStream;
  readonly #guard: Guard;
  readonly #starts: WorkerStarts;
  readonly #beats: Beats;
  #transfer: TransferServer | null = null;
  #httpUrl = '';

  private constructor(boot: AgentBoot, childUmask: number) {
    const { sessionDir, token } = boot;
    this.#boot = boot;
    this.#log = openLog(join(sessionDir, 'logs', 'node.log'), 'node');
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    const short = this.nodeId.slice(0, 6);
    const socketDir = join(sessionDir, short);
    mkdirSync(socketDir, { mode: 0o700 });
    this.uds = join(socketDir, 'agent');
    const bytes = boot.objectStoreBytes;
    const spillRoot = process.env.RAYLITE_SPILL_DIR || null;
    const dead = [...removeDead(ARENA_FOLDER), ...(spillRoot === null ? [] : removeDead(spillRoot))];
    if (dead.length > 0) this.#log.warn('removed what dead agents left', { dead });
    const spillFolder = spillRoot === null ? join(socketDir, 'spill') : join(spillRoot, this.#name);
    const embedded = boot.diesWithParent ? { sessionDir, driverPid: process.ppid } : null;
    this.#limits = new MemoryLimits({ nodeId: this.nodeId, name: this.#name, pool: () => this.#pool, log: this.#log });
    this.#guard = new Guard(this.#arenaPath, spillFolder, embedded, this.#limits.folders);
    this.#arena = native().createArena({ path: this.#arenaPath, bytes });
    this.#spill = new SpillFiles(spillFolder, this.nodeId, this.#arena);
    this.#index = new ObjectIndex(this.nodeId, token, this.#arena, this.#spill, {
      vacated: (holder, vacated) => this.#local.vacated(holder, vacated),
      collect: () => this.#local.collect(),
    });
    this.#packages = new Packages(sessionDir, token);
    this.#npm = new NpmEnvs(childUmask);
    const gpuCount = boot.resources.GPU ?? 0;
    this.#gpuIds = gpuIds(gpuCount);
    const monitor = gpuCount > 0 ? openGpuMonitor(native()) : null;
    this.#gpuWatch = new GpuWatch({ monitor, log: this.#log, freeWaitMs: GPU_FREE_WAIT_MS });
    this.#local = new LocalServer({
      path: this.uds,
      token,
      index: this.#index,
      pool: () => this.#pool,
      log: this.#log,
      activity: (spawnId, activity) => {
        const worker = this.#pool.assignmentOf(spawnId);
        if (worker) this.#calls.note(worker.assignment, worker.pid, activity);
      },
      attached: () => ({
        nodeId: this.nodeId,
        arenaPath: this.#arenaPath,
        arenaBytes: bytes,
        headAddress: boot.headAddress,
        host: boot.host ?? '',
        packageRoot: this.#packages.root,
        socketDir,
        transfer: this.#index.transfer,
      }),
    });
    const workerBoot = join(socketDir, 'worker.boot.json');
    writeFileSync(workerBoot, JSON.stringify({ agentUds: this.uds, token }), { mode: 0o600 });
    this.#head = new HeadStream(
      boot.headAddress,
      token,
      () => this.#hello(),
      (message) => this.#order(message),
      ({ outputs }) => this.#jobs.resume(outputs ?? []),
    );
    this.#pool = new WorkerPool({
      bootFile: workerBoot,
      sessionDir,
      umask: childUmask,
      warmCount: Math.min(WARM_WORKERS_MAX, Math.max(1, Math.floor(boot.resources.CPU ?? 1))),
      log: this.#log,
      news: {
        started: (workerId, address, pid) => this.#head.send({ workerStarted: { workerId, address, pid } }),
        failed: (workerId, failure) => this.#head.send({ workerFailed: { workerId, failure, isFinal: true } }),
        assigned: (assignment, pid) => this.#limits.hold(assignment, pid),
        exited: (workerExited) => {
          this.#calls.ended(workerExited.workerId ?? '');
          this.#head.send({ workerExited: this.#limits.explained(workerExited) });
        },
        lines: (lines) =>
          this.#head.send({ driverLog: { lines: { ...lines, nodeId: this.nodeId, host: boot.host ?? '' } } }),
      },
    });
    this.#starts = new WorkerStarts({
      nodeId: this.nodeId,
      pool: () => this.#pool,
      folderOf: (sha256) => this.#packages.ensure(sha256, this.#httpUrl),
      npm: this.#npm,
      gpuIds: this.#gpuIds,
      gpuWatch: this.#gpuWatch,
      failed: (workerId, failure, isFinal) => this.#head.send({ workerFailed: { workerId, failure, isFinal } }),
      tellGpus: () => this.#beats.send(),
    });
    this.#beats = new Beats({
      arena: this.#arena,
      index: this.#index,
      local: this.#local,
      pool: this.#pool,
      calls: this.#calls,
      gpuWatch: this.#gpuWatch,
      gpuIds: this.#gpuIds,
      send: (beat) => this.#head.send({ beat }),
    });
    const tokenFile = join(socketDir, 'token');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    this.#jobs = new Jobs({
      sessionDir,
      umask: childUmask,
      folderOf: (sha256) => this.#packages.ensure(sha256, this.#httpUrl),
      gpuIds: this.#gpuIds,
      isHeadThere: () => this.#head.isConnected,
      log: this.#log,
      environment: () => ({
        RAYLITE_ADDRESS: boot.headAddress,
        RAYLITE_TOKEN_FILE: tokenFile,
        RAYLITE_AGENT: this.uds,
      }),
      news: {
        output: (jobId, { offset, chunk }) => this.#head.send({ jobOutput: { jobId, offset, chunk } }),
        exited: (jobExited) => this.#head.send({ jobExited }),
      },
    });
  }

  /** Opens the doors of the node and joins the head. Rejects with ConnectionError when the head is not there or refuses. */
  static async start(boot: AgentBoot, childUmask: number): Promise<Agent> {
    mkdirSync(join(boot.sessionDir, 'logs'), { recursive: true, mode: 0o700 });
    chmodSync(boot.sessionDir, 0o700);
    const agent = new Agent(boot, childUmask);
    try {
      await agent.#open();
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
    return agent;
  }

  async #open(): Promise<void> {
    const { host, token } = this.#boot;
    if (host !== null) {
      this.#transfer = await TransferServer.listen(host, token, this.#index);
      this.#index.transfer = `${host.includes(':') ? `[${host}]` : host}:${this.#transfer.port}`;
    }
    await this.#local.listen();
    this.#httpUrl = (await this.#head.connect()).httpUrl;
    this.#pool.open();
    this.#head.refused.then(
      (error: ConnectionError) => this.#end({ reason: error.message, isDrained: false }),
      () => {},
    );
    this.#beats.start();
  }

  /**
   * Tells the head that this node is to leave: it places nothing new here, and ends the node once nothing runs or the time is over. False
   * where that is of no use: the node of the head, which leaves with it, or one that the head cannot be told of.
   */
  drain(seconds: number, message: string): boolean {
    if (this.#boot.isHeadNode || !this.#head.isConnected) return false;
    this.#leaving = { message, deadlineAtMs: performance.now() + 1000 * seconds };
    this.#head.send({ drain: this.#drainOrder() });
    return true;
  }
  #drainOrder(): wire.Drain.$Properties | null {
    if (this.#leaving === null) return null;
    const { message, deadlineAtMs } = this.#leaving;
    return { reason: 'preemption', message, remainingMs: Math.max(0, deadlineAtMs - performance.now()) };
  }

  #hello(): wire.NodeHello.$Properties {
    const { host, resources, labels } = this.#boot;
    return {
      protocol: PROTOCOL_VERSION,
      nodeId: this.nodeId,
      host: host ?? '',
      hostname: hostname(),
      total: { amounts: resources },
      labels,
      transfer: this.#index.transfer,
      workers: [...this.#pool.running(), ...this.#starts.running()],
      runningJobs: [...this.#jobs.running()],
      pid: process.pid,
      version: VERSION,
      uds: this.uds,
      isHead: this.#boot.isHeadNode,
      drain: this.#drainOrder(),
    };
  }

  #order(message: wire.HeadToNode): void {
    if (message.startWorker) this.#starts.start(message.startWorker as wire.StartWorker);
    else if (message.stopWorker) {
      const { workerId, force, reason, graceMs } = message.stopWorker;
      if (this.#starts.cancel(workerId as WorkerId)) {
        this.#head.send({ workerExited: { workerId, exitCode: 0, isIntended: true } });
        return;
      }
      this.#pool.stop((workerId ?? '') as WorkerId, {
        force: force ?? false,
        reason: reason ?? '',
        graceMs: graceMs ?? 0,
      });
    } else if (message.startJob)
      this.#jobs
        .start(message.startJob as wire.StartJob)
        .catch((error: unknown) => this.#log.error('a job could not be started', { error }));
    else if (message.stopJob) this.#jobs.stop((message.stopJob.jobId ?? '') as JobId);
    else if (message.ownerGone) this.#index.ownerGone((message.ownerGone.workerId ?? '') as WorkerId);
    else if (message.flushLogs) {
      const { id } = message.flushLogs;
      this.#local.tellActivity();
      // What workers wrote before this was asked lies in their pipes: two turns of the event loop read it.
      setImmediate(() => {
        setImmediate(() => {
          this.#pool.flushLogs();
          this.#head.send({ logsFlushed: { id } });
        });
      });
    } else if (message.surveyObjects) {
      const { id } = message.surveyObjects;
      this.#survey()
        .then((node) => this.#head.send({ objectsSurveyed: { id, node } }))
        .catch((error: unknown) => this.#log.error('a survey of objects failed', { error }));
    } else if (message.surveyCalls)
      this.#head.send({ callsSurveyed: { id: message.surveyCalls.id, node: this.#calls.survey() } });
    else if (message.drain) this.#beats.countKept();
    else if (message.free) {
      const { reason, isDrained } = message.free;
      this.#end({ reason: reason ?? 'the head freed the node', isDrained: isDrained ?? false });
    } else if (message.welcome?.httpUrl) this.#httpUrl = message.welcome.httpUrl;
  }

  async #survey(): Promise<wire.NodeObjects.$Properties> {
    const processes = [...(await this.#local.survey())];
    const placed = this.#index.placed();
    return {
      arenaUsedBytes: this.#index.usedBytes,
      arenaTotalBytes: this.#arena.bytes,
      spilledBytes: this.#index.spilledBytes,
      objects: placed.slice(0, SURVEYED_OBJECTS_MAX),
      omittedCount: Math.max(0, placed.length - SURVEYED_OBJECTS_MAX),
      processes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#beats[Symbol.dispose]();
    this.#jobs.close();
    const workers = this.#pool.close();
    this.#head.close();
    this.#arena.unlink();
    this.#spill.remove();
    await workers;
    this.#limits[Symbol.dispose]();
    this.#gpuWatch[Symbol.dispose]();
    await this.#local[Symbol.asyncDispose]();
    await this.#transfer?.[Symbol.asyncDispose]();
    // An embedded cluster leaves nothing behind; otherwise the logs stay.
    const { sessionDir, diesWithParent } = this.#boot;
    rmSync(diesWithParent ? sessionDir : join(sessionDir, this.nodeId.slice(0, 6)), { recursive: true, force: true });
    this.#guard.dismiss();
  }
}

const VERSION = '0.1.0';
