// A file that a job offloads to: its memory's bytes by the buffer and offset that programs know them by.
import { mkdirSync } from 'node:fs';
import { EngineError } from '../../common/index.js';
import { type NativeSwapFile, native } from '../../native/index.js';
import type { Extent, FileContents, FileSettings } from '../offload.js';

/** What a job offloads to disk: a file without a name, which goes with the process. */
export class OffloadFile implements Disposable {
  readonly file: NativeSwapFile;
  readonly #extents: readonly Extent[];

  /** Sets space aside in `settings.folder`, which is made if it is not there. Throws {@link EngineError} naming it. */
  constructor(settings: FileSettings, { bytes, extents }: FileContents) {
    this.file = named(() => {
      mkdirSync(settings.folder, { recursive: true });
      return native().openSwapFile({ ...settings, bytes });
    });
    this.#extents = extents;
  }

  read(buffer: string, offsetBytes: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#each(buffer, offsetBytes, bytes, (at, part) => this.file.read(at, part));
    return bytes;
  }

  write(buffer: string, offsetBytes: number, bytes: Uint8Array): void {
    this.#each(buffer, offsetBytes, bytes, (at, part) => this.file.write(at, part));
  }

  [Symbol.dispose](): void {
    this.file.dispose();
  }

  #each(buffer: string, start: number, bytes: Uint8Array, access: (at: number, part: Uint8Array) => void): void {
    const end = start + bytes.length;
    for (const extent of this.#extents) {
      if (extent.buffer !== buffer) continue;
      const from = Math.max(start, extent.offsetBytes);
      const to = Math.min(end, extent.offsetBytes + extent.bytes);
      if (from >= to) continue;
      const at = extent.fileOffset + from - extent.offsetBytes;
      named(() => access(at, bytes.subarray(from - start, to - start)));
    }
  }
}

/** Errors of the system as ours: they name the folder. */
function named<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new EngineError({ detail: cause instanceof Error ? cause.message : String(cause), rank: null }, { cause });
  }
}
