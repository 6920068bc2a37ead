// Copies of other nodes' objects in the arena. Each is made once for all who read it, and goes when nobody does any more.
import { type ObjectId, ObjectLostError } from '../common/index.js';
import type { Room } from './room.js';
import type { Holder, SlabLease, SlabTable } from './slab-table.js';

interface Place {
  readonly offset: number;
  readonly size: number;
}
interface Copy {
  readonly pins: Map<Holder, number>;
  slab: SlabLease | null;
  isWhole: boolean;
  size: number; // bytes; 0 until it is known
  goodBytes: number; // that have come, from the start
  heard: (() => void)[]; // when more has come, or it is given up
  isDropped: boolean;
  place: Promise<Place>;
}

/** A copy that is read while it may still be coming. Rejects with ObjectLostError when it is given up. */
export interface OpenCopy {
  readonly size: Promise<number>;
  /** Where the copy begins, once so many of its bytes have come. */
  offsetOnce(bytes: number): Promise<number>;
  close(): void;
}

export class Copies {
  /** Holds the slabs of all copies. */
  readonly holder: Holder = { name: 'copies' };
  readonly #table: SlabTable;
  readonly #room: Room;
  readonly #copies = new Map<ObjectId, Copy>();

  constructor(table: SlabTable, room: Room) {
    this.#table = table;
    this.#room = room;
  }

  /** The place of a copy that is here or on its way, pinned for `holder`; null when there is none. */
  pin(objectId: ObjectId, holder: Holder): Promise<Place> | null {
    const copy = this.#copies.get(objectId);
    if (!copy) return null;
    copy.pins.set(holder, (copy.pins.get(holder) ?? 0) + 1);
    return copy.place;
  }

  /** Opens a copy, also one that is on its way, for giving it on; pinned for `reader` until `close`. Null: there is none. */
  open(objectId: ObjectId, reader: Holder): OpenCopy | null {
    const copy = this.#copies.get(objectId);
    if (!copy) return null;
    copy.pins.set(reader, 1);
    const until = async (isReady: () => boolean): Promise<void> => {
      while (!isReady()) {
        if (copy.isDropped) throw new ObjectLostError({ objectId, detail: 'this node has given up its copy' });
        await new Promise<void>((heard) => copy.heard.push(heard));
      }
    };
    const offsetOnce = async (bytes: number): Promise<number> => {
      await until(() => copy.goodBytes >= bytes && copy.slab !== null);
      return copy.slab?.offset ?? 0;
    };
    const size = until(() => copy.size > 0).then(() => copy.size);
    return { size, offsetOnce, close: () => this.unpin(objectId, reader) };
  }

  unpin(objectId: ObjectId, holder: Holder): void {
    const copy = this.#copies.get(objectId);
    const count = copy?.pins.get(holder) ?? 0;
    if (!copy || count === 0) return;
    if (count > 1) copy.pins.set(holder, count - 1);
    else copy.pins.delete(holder);
    this.#dropUnused(objectId, copy);
  }

  /**
   * Makes a copy, pinned for `holder`. `fill` asks for room once it knows the size, writes the bytes there and returns the
   * size; when it fails the copy never was. It says how far it is, for those who read the copy meanwhile.
   */
  make(
    objectId: ObjectId,
    holder: Holder,
    fill: (lease: (size: number) => Promise<SlabLease>, arrived: (goodBytes: number) => void) => Promise<number>,
  ): Promise<Place> {
    const run = async (): Promise<Place> => {
      try {
        const size = await fill(
          async (bytes) => {
            copy.slab ??= await this.#room.lease(bytes, this.holder, () => copy.isDropped);
            copy.size = bytes;
            grown(copy, 0);
            if (copy.slab && !copy.isDropped) return copy.slab;
            if (copy.slab) this.#table.giveBack(copy.slab.slab, this.holder);
            throw new Error('the copy was given up while it waited for room');
          },
          (goodBytes) => grown(copy, goodBytes),
        );
        copy.isWhole = true;
        copy.size = size;
        grown(copy, size);
        this.#dropUnused(objectId, copy);
        return { offset: copy.slab?.offset ?? 0, size };
      } catch (error) {
        this.#drop(objectId, copy);
        throw error;
      }
    };
    const copy: Copy = {
      pins: new Map([[holder, 1]]),
      slab: null,
      isWhole: false,
      size: 0,
      goodBytes: 0,
      heard: [],
      isDropped: false,
      place: Promise.resolve({ offset: 0, size: 0 }),
    };
    this.#copies.set(objectId, copy);
    copy.place = run();
    return copy.place;
  }

  processGone(holder: Holder): void {
    for (const [objectId, copy] of [...this.#copies]) if (copy.pins.delete(holder)) this.#dropUnused(objectId, copy);
  }

  /** The copies that are here in full. */
  *whole(): Iterable<{ readonly objectId: ObjectId; readonly size: number }> {
    for (const [objectId, { isWhole, size }] of this.#copies) if (isWhole) yield { objectId, size };
  }

  #dropUnused(objectId: ObjectId, copy: Copy): void {
    if (copy.pins.size === 0 && copy.isWhole) this.#drop(objectId, copy);
  }
  #drop(objectId: ObjectId, copy: Copy): void {
    if (this.#copies.get(objectId) === copy) this.#copies.delete(objectId);
    if (copy.isDropped) return;
    copy.isDropped = true;
    grown(copy, copy.goodBytes);
    const { slab } = copy;
    if (!slab) return;
    this.#table.giveBack(slab.slab, this.holder);
    this.#room.wake();
  }
}

function grown(copy: Copy, goodBytes: number): void {
  copy.goodBytes = goodBytes;
  for (const heard of copy.heard.splice(0)) heard();
}
