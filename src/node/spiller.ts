// Moves objects that nobody reads from the arena to disk, those that were made first before the others.
import type { NativeArena } from '../native/index.js';
import type { SlabTable, StoredObject } from './slab-table.js';
import type { DiskPlace, SpillFiles } from './spill-files.js';

/** Objects are gathered in one file up to here: one goes from the disk when its last object does. */
const FILE_BYTES_MIN = 32 * 1024 * 1024;
/** One round moves at least this, or this part of the arena. */
const ROUND_BYTES_MAX = 100 * 1024 * 1024;
const ROUND_SHARE = 1 / 8;
/** Files that are written at once, each by a thread of the pool, which others need too. */
const WRITERS = 2;

export class Spiller {
  readonly #table: SlabTable;
  readonly #arena: NativeArena;
  readonly #files: SpillFiles;
  readonly #isHeld: (object: StoredObject) => boolean;
  readonly #moved: (object: StoredObject, place: DiskPlace) => void;
  #round: Promise<number> | null = null;

  /** @param isHeld whether this process itself reads it @param moved told of each object that is on disk and may be overwritten */
  constructor(
    table: SlabTable,
    arena: NativeArena,
    files: SpillFiles,
    isHeld: (object: StoredObject) => boolean,
    moved: (object: StoredObject, place: DiskPlace) => void,
  ) {
    this.#table = table;
    this.#arena = arena;
    this.#files = files;
    this.#isHeld = isHeld;
    this.#moved = moved;
  }

  /** Makes room; one round at a time, which all who ask meanwhile wait for. Resolves to the bytes moved, 0 when there is nothing. */
  spill(bytes: number): Promise<number> {
    this.#round ??= this.#run(bytes).finally(() => {
      this.#round = null;
    });
    return this.#round;
  }

  async #run(bytes: number): Promise<number> {
    const wanted = Math.max(bytes, Math.min(ROUND_BYTES_MAX, this.#arena.bytes * ROUND_SHARE));
    let moved = 0;
    while (moved < wanted) {
      const batches: (readonly StoredObject[])[] = [];
      for (let taken = 0; batches.length < WRITERS && moved + taken < wanted; ) {
        const batch = this.#take(Math.min(wanted - moved - taken, FILE_BYTES_MIN));
        if (batch.length === 0) break;
        batches.push(batch);
        for (const { size } of batch) taken += size;
      }
      if (batches.length === 0) break;
      const written = await Promise.allSettled(batches.map((batch) => this.#write(batch)));
      for (const one of written) {
        if (one.status === 'rejected') throw one.reason;
        moved += one.value;
      }
    }
    return moved;
  }

  /** Objects that together have `bytes`, if there are as many; from now on nobody can begin to read them in the arena. */
  #take(bytes: number): readonly StoredObject[] {
    const batch: StoredObject[] = [];
    let taken = 0;
    for (const object of this.#table.objects()) {
      if (taken >= bytes) break;
      const { offset, slab, serial, size } = object;
      if (this.#isHeld(object) || !this.#arena.revoke(offset, slab, serial)) continue;
      batch.push(object);
      taken += size;
    }
    return batch;
  }

  async #write(batch: readonly StoredObject[]): Promise<number> {
    let places: readonly DiskPlace[];
    try {
      places = await this.#files.write(batch);
    } catch (error) {
      for (const object of batch) if (this.#table.find(object.objectId) === object) this.#show(object);
      throw error;
    }
    let moved = 0;
    batch.forEach((object, index) => {
      const place = places[index]!;
      const isHere = this.#table.find(object.objectId) === object; // else it was freed meanwhile
      if (isHere && !this.#isHeld(object)) {
        moved += object.size;
        this.#moved(object, place);
        return;
      }
      this.#files.drop(place);
      if (isHere) this.#show(object);
    });
    return moved;
  }

  /** It stays where it is: processes may read it there again. */
  #show({ offset, slab, serial }: StoredObject): void {
    this.#arena.publish(offset, slab, serial);
  }
}
