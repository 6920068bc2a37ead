// What a job has written so far, in a file, so that a head that missed some of it can go on where it has got to.
import { closeSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { JOB_OUTPUT_BYTES_MAX } from '../common/index.js';

const CHUNK_BYTES = 64 * 1024;

export interface OutputChunk {
  /** How much the job had written before. */
  readonly offset: number;
  readonly chunk: Uint8Array;
}

export class JobOutput {
  readonly #path: string;
  readonly #file: number;
  readonly #bytesMax: number;
  readonly #failed: (error: unknown) => void;
  #size = 0;
  /** The first bytes, that are in the file: all of them, unless it could not be written or is full. `0 <= kept <= size`. */
  #kept = 0;

  /** @param failed the disk refused: what comes later is not kept, and missed if the head misses it */
  constructor(path: string, failed: (error: unknown) => void, bytesMax = JOB_OUTPUT_BYTES_MAX) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#path = path;
    this.#file = openSync(path, 'w+', 0o600);
    this.#failed = failed;
    this.#bytesMax = bytesMax;
  }

  write(chunk: Uint8Array): OutputChunk {
    const offset = this.#size;
    this.#size += chunk.byteLength;
    if (this.#kept === offset && this.#size <= this.#bytesMax) this.#keep(chunk);
    return { offset, chunk };
  }

  #keep(chunk: Uint8Array): void {
    try {
      for (let at = 0; at < chunk.byteLength; ) {
        const written = writeSync(this.#file, chunk, at, chunk.byteLength - at, this.#kept);
        this.#kept += written;
        at += written;
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  /** What was written from byte `offset` on and is kept. */
  *from(offset: number): Iterable<OutputChunk> {
    for (let at = offset; at < this.#kept; ) {
      const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, this.#kept - at));
      const bytes = readSync(this.#file, chunk, 0, chunk.byteLength, at);
      if (bytes === 0) return; // somebody cut the file
      yield { offset: at, chunk: chunk.subarray(0, bytes) };
      at += bytes;
    }
  }

  remove(): void {
    closeSync(this.#file);
    rmSync(this.#path, { force: true });
  }
}
