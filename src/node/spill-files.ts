// Objects on disk: several in one file, each from a page boundary on, with its checksum. A file whose objects are gone is kept a while
// for those that come next: their bytes go where memory and disk blocks are there already.
import { mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type NodeId, numberSetting, OutOfDiskError } from '../common/index.js';
import { type NativeArena, native } from '../native/index.js';
import type { Holder } from './slab-table.js';

const PAGE_BYTES = 4096;
/** Part of the disk that is left to others, as in Ray. */
const FREE_SHARE_MIN = 0.05;
const KEEP_SECONDS = 30;

interface SpillFile {
  readonly path: string;
  /** Set aside on disk. */
  bytes: number;
  objects: number;
  /** Who has mapped some of it, and how often: until they let go it takes nothing new. They keep their bytes when it is unlinked. */
  readonly readers: Map<Holder, number>;
  /** Set while it has no objects, and is kept for others. */
  kept: NodeJS.Timeout | null;
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
  readonly #keepMs: number;
  readonly #files = new Map<string, SpillFile>();
  #isMade = false;
  #made = 0;
  #usedBytes = 0;

  /** @param folder made when first needed, removed by `remove` */
  constructor(folder: string, nodeId: NodeId, arena: NativeArena) {
    this.folder = folder;
    this.#nodeId = nodeId;
    this.#arena = arena;
    this.#keepMs = numberSetting('RAYLITE_SPILL_KEEP_SECONDS', KEEP_SECONDS, { max: 86_400 }) * 1000;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Writes regions of the arena into one file. Rejects with OutOfDiskError, and then leaves nothing behind. */
  async write(regions: readonly Region[]): Promise<readonly DiskPlace[]> {
    let end = 0;
    const parts = regions.map(({ offset, size }) => {
      const at = end;
      end += pages(size);
      return { offset, size, at };
    });
    let handle: FileHandle | null = null;
    const file = this.#take(end);
    const flags = file.bytes > 0 ? 'r+' : 'wx';
    try {
      if (!this.#isMade) mkdirSync(this.folder, { recursive: true, mode: 0o700 });
      this.#isMade = true;
      await this.#checkRoom(end - file.bytes);
      handle = await open(file.path, flags, 0o600);
      const checksums = await this.#arena.spill(handle.fd, parts);
      file.bytes = Math.max(file.bytes, end);
      file.objects = regions.length;
      this.#usedBytes += regions.reduce((sum, { size }) => sum + size, 0);
      return parts.map(({ at, size }, index) => ({ file, offset: at, size, crc: checksums[index]! }));
    } catch (cause) {
      await this.#remove(file);
      if (cause instanceof OutOfDiskError) throw cause;
      const detail = `writing failed: ${(cause as Error).message}`;
      throw new OutOfDiskError({ nodeId: this.#nodeId, folder: this.folder, requestedBytes: end, detail }, { cause });
    } finally {
      await handle?.close();
    }
  }

  /** The bytes of an object, which are right: rejects when the file is gone, shorter or damaged. */
  async map({ file, offset, size, crc }: DiskPlace): Promise<ArrayBuffer> {
    const reader = {};
    this.hold(file, reader);
    const letGo = (): void => this.letGo(file.path, reader);
    try {
      return await native().mapFile({ path: file.path, at: offset, bytes: size, crc }, letGo);
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** The bytes of a file stay what they are until `reader` lets go of it as often, or is gone. */
  hold({ readers }: SpillFile, reader: Holder): void {
    readers.set(reader, (readers.get(reader) ?? 0) + 1);
  }
  letGo(path: string, reader: Holder): void {
    const file = this.#files.get(path);
    const count = file?.readers.get(reader) ?? 0;
    if (!file || count === 0) return;
    if (count > 1) file.readers.set(reader, count - 1);
    else file.readers.delete(reader);
  }
  readerGone(reader: Holder): void {
    for (const { readers } of this.#files.values()) readers.delete(reader);
  }

  drop({ file, size }: DiskPlace): void {
    file.objects -= 1;
    this.#usedBytes -= size;
    this.#collect(file);
  }

  /** A file for so many bytes: of those that are kept the smallest that has them, else the largest, else a new one. */
  #take(bytes: number): SpillFile {
    let best: SpillFile | null = null;
    for (const file of this.#files.values()) {
      if (file.kept === null || file.readers.size > 0) continue;
      const isBetter = best === null || (best.bytes < bytes ? file.bytes > best.bytes : file.bytes < best.bytes);
      if (isBetter && (best === null || best.bytes < bytes || file.bytes >= bytes)) best = file;
    }
    if (best !== null) {
      clearTimeout(best.kept!);
      best.kept = null;
      return best;
    }
    const path = join(this.folder, String(this.#made++));
    const file: SpillFile = { path, bytes: 0, objects: 0, readers: new Map(), kept: null };
    this.#files.set(path, file);
    return file;
  }

  #collect(file: SpillFile): void {
    if (file.objects > 0) return;
    const remove = (): void => {
      this.#remove(file).catch(() => {}); // the folder went before it
    };
    if (this.#keepMs > 0) file.kept = setTimeout(remove, this.#keepMs).unref();
    else remove();
  }

  async #remove(file: SpillFile): Promise<void> {
    if (file.kept !== null) clearTimeout(file.kept);
    file.kept = null;
    this.#files.delete(file.path);
    await unlink(file.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error; // it may not have been made
    });
  }

  /** Throws OutOfDiskError where `bytes` more are too many; files that are kept for others go first. */
  async #checkRoom(bytes: number): Promise<void> {
    for (;;) {
      const { bavail, blocks, bsize } = await statfs(this.folder);
      if (bavail * bsize - Math.max(bytes, 0) >= FREE_SHARE_MIN * blocks * bsize) return;
      const kept = [...this.#files.values()].filter((file) => file.kept !== null);
      if (kept.length === 0) {
        const detail = `only ${bavail * bsize} bytes of ${blocks * bsize} are free there, and ${FREE_SHARE_MIN * 100} % stay so`;
        throw new OutOfDiskError({ nodeId: this.#nodeId, folder: this.folder, requestedBytes: bytes, detail });
      }
      for (const file of kept) await this.#remove(file);
    }
  }

  remove(): void {
    for (const { kept } of this.#files.values()) if (kept !== null) clearTimeout(kept);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
