// Submitted jobs on this node: a shell runs the entrypoint in the job's working directory; output and end go to the head.
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { JobId } from '../common/index.js';
import type { Log } from '../observe/index.js';
import { failureOf, type wire } from '../protocol/index.js';
import { gpuEnvironment } from './gpu-ids.js';
import { ENDS_MS_MAX } from './head-stream.js';
import { JobOutput, type OutputChunk } from './job-output.js';
import { killGroup, spawnBound } from './spawn-bound.js';

export interface JobNews {
  /** May be lost: {@link Jobs.resume} sends it again. */
  output(jobId: JobId, output: OutputChunk): void;
  exited(exit: wire.JobExited.$Properties): void;
}

const STOP_MS_MAX = 3_000;

export class Jobs {
  readonly #running = new Map<JobId, ChildProcess | null>(); // null: its package is being fetched
  readonly #outputs = new Map<JobId, JobOutput>();
  readonly #stopped = new Set<JobId>();
  readonly #sessionDir: string;
  readonly #news: JobNews;
  readonly #environment: () => Readonly<Record<string, string>>;
  readonly #folderOf: (sha256: string) => Promise<string>;
  readonly #gpuIds: readonly string[];
  readonly #isHeadThere: () => boolean;
  readonly #log: Log;
  readonly #umask: number;

  constructor(options: {
    readonly sessionDir: string;
    readonly news: JobNews;
    /** What a driver needs to join: address, token file, socket of the agent. */
    readonly environment: () => Readonly<Record<string, string>>;
    readonly folderOf: (sha256: string) => Promise<string>;
    /** The devices of the node, as CUDA names them. */
    readonly gpuIds: readonly string[];
    readonly isHeadThere: () => boolean;
    readonly log: Log;
    /** Of the jobs' processes. */
    readonly umask: number;
  }) {
    this.#sessionDir = options.sessionDir;
    this.#news = options.news;
    this.#environment = options.environment;
    this.#folderOf = options.folderOf;
    this.#gpuIds = options.gpuIds;
    this.#isHeadThere = options.isHeadThere;
    this.#log = options.log;
    this.#umask = options.umask;
  }

  running(): readonly JobId[] {
    return [...this.#running.keys()];
  }

  async start({ jobId: id, entrypoint, runtimeEnv, gpus }: wire.StartJob): Promise<void> {
    const jobId = id as JobId;
    if (this.#running.has(jobId)) return;
    this.#running.set(jobId, null);
    const sha = runtimeEnv?.package ?? '';
    try {
      const folder = sha ? await this.#folderOf(sha) : this.#emptyFolder(jobId);
      if (this.#stopped.delete(jobId)) {
        this.#ended(jobId, { exitCode: -1, signal: 'SIGTERM' });
        return;
      }
      const env = {
        ...process.env,
        ...gpuEnvironment((gpus ?? []).map((device) => this.#gpuIds[device]!)),
        ...runtimeEnv?.envVars,
        ...this.#environment(),
        RAYLITE_JOB_ID: jobId,
        ...(sha ? { RAYLITE_PACKAGE: sha } : {}),
      };
      const output = this.#outputOf(jobId);
      const how: SpawnOptions = { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] };
      const child = spawnBound('/bin/sh', ['-c', entrypoint], how, this.#umask);
      this.#running.set(jobId, child);
      const tell = (chunk: Buffer): void => this.#news.output(jobId, output.write(chunk));
      child.stdout!.on('data', tell);
      child.stderr!.on('data', tell);
      child.once('error', (error) => this.#ended(jobId, { exitCode: -1, failure: failureOf(error) }));
      child.once('close', (code, signal) => {
        killGroup(child, 'SIGKILL'); // what it left behind
        this.#ended(jobId, { exitCode: code ?? -1, signal: signal ?? '' });
      });
    } catch (error) {
      this.#ended(jobId, { exitCode: -1, failure: failureOf(error) });
    }
  }

  /** The head has got so far: what follows is told again. */
  resume(outputs: readonly wire.OutputSoFar.$Properties[]): void {
    for (const { jobId, bytes } of outputs) {
      const id = jobId as JobId;
      for (const output of this.#outputs.get(id)?.from(bytes ?? 0) ?? []) this.#news.output(id, output);
    }
  }

  stop(jobId: JobId): void {
    const child = this.#running.get(jobId);
    if (child === null) this.#stopped.add(jobId);
    if (!child) return;
    killGroup(child, 'SIGTERM');
    setTimeout(() => killGroup(child, 'SIGKILL'), STOP_MS_MAX).unref();
  }

  close(): void {
    for (const child of this.#running.values()) if (child) killGroup(child, 'SIGKILL');
    for (const jobId of [...this.#outputs.keys()]) this.#forget(jobId);
  }

  #ended(jobId: JobId, exit: Omit<wire.JobExited.$Properties, 'jobId'>): void {
    if (!this.#running.delete(jobId)) return;
    this.#news.exited({ ...exit, jobId });
    this.#forgetLater(jobId);
  }

  /** As long as the end may be told again, so may what was written before it. */
  #forgetLater(jobId: JobId): void {
    setTimeout(() => {
      if (this.#isHeadThere()) this.#forget(jobId);
      else this.#forgetLater(jobId);
    }, ENDS_MS_MAX).unref();
  }

  #forget(jobId: JobId): void {
    this.#outputs.get(jobId)?.remove();
    this.#outputs.delete(jobId);
  }

  #outputOf(jobId: JobId): JobOutput {
    this.#forget(jobId);
    const path = join(this.#sessionDir, 'job-output', nameOf(jobId));
    const output = new JobOutput(path, (error) =>
      this.#log.warn('output of a job is not kept for a head that misses it', { jobId, error }),
    );
    this.#outputs.set(jobId, output);
    return output;
  }

  #emptyFolder(jobId: JobId): string {
    const folder = join(this.#sessionDir, 'jobs', nameOf(jobId));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }
}

/** Of a file. */
const nameOf = (jobId: JobId): string => jobId.replace(/[^\w.-]/g, '_');
