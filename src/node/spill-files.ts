// Objects on disk: several in one file, each from a page boundary on, with its checksum. A file goes when its last object does.
import { mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type NodeId, OutOfDiskError } from '../common/index.js';
import type { NativeArena } from '../native/index.js';
import { readChecked, writeChecked } from '../protocol/index.js';

const PAGE_BYTES = 4096;
/** Part of the disk that is left to others, as in Ray. */
const FREE_SHARE_MIN = 0.05;

interface SpillFile {
  readonly path: string;
  objects: number;
  /** Of reads under way. */
  readers: number;
}
export interface DiskPlace {
  readonly file: SpillFile;
  readonly offset: number;
  readonly size: number;
  readonly crc: number;
}
interface Region {
  readonly offset: number;
  readonly size: number;
}

const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

export class SpillFiles {
  readonly folder: string;
  readonly #nodeId: NodeId;
  readonly #arena: NativeArena;
  #isMade = false;
  #files = 0;
  #usedBytes = 0;

  /** @param folder made when first needed, removed by `remove` */
  constructor(folder: string, nodeId: NodeId, arena: NativeArena) {
    this.folder = folder;
    this.#nodeId = nodeId;
    this.#arena = arena;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Writes regions of the arena into one new file. Rejects with OutOfDiskError, and then leaves nothing behind. */
  async write(regions: readonly Region[]): Promise<readonly DiskPlace[]> {
    const bytes = regions.reduce((sum, { size }) => sum + pages(size), 0);
    let handle: FileHandle | null = null;
    const file: SpillFile = { path: join(this.folder, String(this.#files++)), objects: regions.length, readers: 0 };
    try {
      if (!this.#isMade) mkdirSync(this.folder, { recursive: true, mode: 0o700 });
      this.#isMade = true;
      await this.#checkRoom(bytes);
      handle = await open(file.path, 'wx', 0o600);
      const places: DiskPlace[] = [];
      let at = 0;
      for (const { offset, size } of regions) {
        const crc = await writeChecked(handle, new Uint8Array(this.#arena.readable(offset, size, () => {})), at);
        places.push({ file, offset: at, size, crc });
        at += pages(size);
      }
      this.#usedBytes += regions.reduce((sum, { size }) => sum + size, 0);
      return places;
    } catch (cause) {
      await unlink(file.path).catch(() => {}); // it may not have been made
      if (cause instanceof OutOfDiskError) throw cause;
      const { code } = cause as NodeJS.ErrnoException;
      throw new OutOfDiskError(
        { nodeId: this.#nodeId, folder: this.folder, requestedBytes: bytes, detail: `writing failed with ${code}` },
        { cause },
      );
    } finally {
      await handle?.close();
    }
  }

  /** Reads bytes [from, from + into.length) of an object. Resolves to their checksum; rejects when the file is gone or shorter. */
  async read({ file, offset }: DiskPlace, from: number, into: Uint8Array): Promise<number> {
    file.readers += 1;
    try {
      const handle = await open(file.path, 'r');
      try {
        const crc = await readChecked(handle, into, offset + from);
        if (crc === null) throw new RangeError(`${file.path} ends before its object does`);
        return crc;
      } finally {
        await handle.close();
      }
    } finally {
      file.readers -= 1;
      this.#collect(file);
    }
  }

  drop({ file, size }: DiskPlace): void {
    file.objects -= 1;
    this.#usedBytes -= size;
    this.#collect(file);
  }

  #collect(file: SpillFile): void {
    if (file.objects === 0 && file.readers === 0) unlink(file.path).catch(() => {}); // the folder went before it
  }

  async #checkRoom(bytes: number): Promise<void> {
    const { bavail, blocks, bsize } = await statfs(this.folder);
    if (bavail * bsize - bytes >= FREE_SHARE_MIN * blocks * bsize) return;
    const detail = `only ${bavail * bsize} bytes of ${blocks * bsize} are free there, and ${FREE_SHARE_MIN * 100} % stay so`;
    throw new OutOfDiskError({ nodeId: this.#nodeId, folder: this.folder, requestedBytes: bytes, detail });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
