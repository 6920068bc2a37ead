// The output of submitted jobs: one bounded file each, and whoever follows it.
import { closeSync, createReadStream, fstatSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { JOB_OUTPUT_BYTES_MAX, type JobId } from '../common/index.js';

interface OpenLog {
  readonly file: number;
  bytes: number;
  /** Of what the job wrote. */
  received: number;
  isCut: boolean;
}

export class JobLogs implements Disposable {
  readonly #dir: string;
  readonly #bytesMax: number;
  readonly #open = new Map<JobId, OpenLog>();
  readonly #followers = new Map<JobId, Set<(chunk: Uint8Array | null) => void>>();

  /**
   * @param dir exists already
   * @param bytesMax of one job's output; what comes after is dropped, and the file says so
   */
  constructor(dir: string, bytesMax = JOB_OUTPUT_BYTES_MAX) {
    this.#dir = dir;
    this.#bytesMax = bytesMax;
  }

  pathOf(jobId: JobId): string {
    return join(this.#dir, `${jobId.startsWith('job-') ? '' : 'job-'}${jobId}.log`);
  }

  /** How much of what the job writes is here, or is not wanted any more. */
  received(jobId: JobId): number {
    const log = this.#log(jobId);
    return log.isCut ? Number.MAX_SAFE_INTEGER : log.received;
  }

  /** Adds what of it is new: `offset` is what the job had written before. */
  append(jobId: JobId, { offset, chunk: sent }: { readonly offset: number; readonly chunk: Uint8Array }): void {
    const log = this.#log(jobId);
    if (log.isCut || offset + sent.byteLength <= log.received) return;
    if (offset > log.received) {
      const missing = `\n[raylite: ${offset - log.received} bytes of output were lost on their node]\n`;
      this.#write(jobId, log, Buffer.from(missing));
    }
    const chunk = sent.subarray(Math.max(0, log.received - offset));
    log.received = offset + sent.byteLength;
    const room = this.#bytesMax - log.bytes;
    if (chunk.byteLength <= room) {
      this.#write(jobId, log, chunk);
      return;
    }
    this.#write(jobId, log, chunk.subarray(0, Math.max(0, room)));
    log.isCut = true;
    this.#write(jobId, log, Buffer.from(`\n[raylite: output beyond ${this.#bytesMax} bytes was dropped]\n`));
  }

  #write(jobId: JobId, log: OpenLog, chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return;
    writeSync(log.file, chunk);
    log.bytes += chunk.byteLength;
    for (const follower of this.#followers.get(jobId) ?? []) follower(chunk);
  }

  #log(jobId: JobId): OpenLog {
    const known = this.#open.get(jobId);
    if (known) return known;
    const file = openSync(this.pathOf(jobId), 'a', 0o600);
    const bytes = fstatSync(file).size;
    const log = { file, bytes, received: bytes, isCut: bytes >= this.#bytesMax };
    this.#open.set(jobId, log);
    return log;
  }

  /** The job ended: followers hear null, the file is closed. */
  end(jobId: JobId): void {
    const log = this.#open.get(jobId);
    if (log) closeSync(log.file);
    this.#open.delete(jobId);
    const followers = this.#followers.get(jobId);
    this.#followers.delete(jobId);
    for (const follower of followers ?? []) follower(null);
  }

  remove(jobId: JobId): void {
    this.end(jobId);
    rmSync(this.pathOf(jobId), { force: true });
  }

  bytesOf(jobId: JobId): number {
    return statSync(this.pathOf(jobId), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** The output from byte `from` up to byte `to`. */
  read(jobId: JobId, from: number, to: number): Readable | null {
    return from >= to ? null : createReadStream(this.pathOf(jobId), { start: from, end: to - 1 });
  }

  /** Calls `follower` with each new chunk, then once with null when the job ends. Returns how to stop that. */
  follow(jobId: JobId, follower: (chunk: Uint8Array | null) => void): () => void {
    const followers = this.#followers.get(jobId) ?? new Set();
    followers.add(follower);
    this.#followers.set(jobId, followers);
    return () => void followers.delete(follower);
  }

  [Symbol.dispose](): void {
    for (const jobId of [...this.#open.keys()]) this.end(jobId);
  }
}
