// The large objects of this node: those that its processes made, in the arena or on disk, and copies of others' that are read here.
import { type NodeId, type ObjectId, ObjectLostError, type WorkerId } from '../common/index.js';
import type { NativeArena } from '../native/index.js';
import type { wire } from '../protocol/index.js';
import { Copies } from './copies.js';
import { prefaultBytes } from './prefault.js';
import { pullObject, tellFreed } from './pull-object.js';
import { Room } from './room.js';
import { type Holder, type SlabLease, SlabTable, type StoredObject } from './slab-table.js';
import type { DiskPlace, SpillFiles } from './spill-files.js';
import { Spiller } from './spiller.js';
import { type TransferRead, whenSealed } from './transfer.js';

interface Spilled {
  readonly ownerId: WorkerId;
  readonly place: DiskPlace;
}

/** Where the bytes of an object, or of a copy of it, lie on this node. */
export interface PlacedObject {
  readonly objectId: ObjectId;
  readonly place: 'arena' | 'spilled' | 'copy';
  readonly size: number; // bytes
}

/** What the index has others told. */
export interface IndexNews {
  /** The process whose slab an object lay in may use the region again. */
  readonly vacated: (holder: Holder, vacated: wire.Vacated.$Properties) => void;
  /** The arena is full: all processes should let go of what they do not use. Resolves when they have. */
  readonly collect: () => Promise<void>;
}

export interface Pulled {
  readonly location: wire.Location.$Properties;
  /** Set: not in the arena, but in this file at `location.offset`. */
  readonly file?: string;
  readonly crc?: number;
}

export class ObjectIndex {
  readonly #nodeId: NodeId;
  readonly #token: string;
  readonly #arena: NativeArena;
  readonly #news: IndexNews;
  readonly #table: SlabTable;
  readonly #room: Room;
  readonly #files: SpillFiles;
  readonly #copies: Copies;
  readonly #spilled = new Map<ObjectId, Spilled>();
  readonly #held = new Map<ObjectId, Map<Holder, number>>(); // in slabs, read by processes that have no bit of their own, or by us
  readonly #zombies = new Map<ObjectId, StoredObject>(); // freed by their owner, still read by somebody
  /** host:port of our transfer server; empty in a cluster bound to one machine. */
  transfer = '';

  constructor(nodeId: NodeId, token: string, arena: NativeArena, files: SpillFiles, news: IndexNews) {
    this.#nodeId = nodeId;
    this.#token = token;
    this.#arena = arena;
    this.#files = files;
    this.#news = news;
    this.#table = new SlabTable(nodeId, arena.bytes);
    const spiller = new Spiller(
      this.#table,
      arena,
      files,
      ({ objectId }) => this.#held.has(objectId),
      (object, place) => this.#moved(object, place),
    );
    this.#room = new Room(this.#table, {
      reached: () => arena.prefault(prefaultBytes(this.#table.reachedBytes, arena.bytes)),
      collect: news.collect,
      spill: (bytes) => {
        this.#bury();
        return spiller.spill(bytes);
      },
    });
    this.#copies = new Copies(this.#table, this.#room);
    arena.prefault(prefaultBytes(0, arena.bytes));
  }

  get usedBytes(): number {
    return this.#table.usedBytes;
  }
  get spilledBytes(): number {
    return this.#files.usedBytes;
  }

  /** Objects and copies of this node, the largest first. */
  placed(): readonly PlacedObject[] {
    const placed: PlacedObject[] = [];
    for (const { objectId, size } of this.#table.objects()) placed.push({ objectId, place: 'arena', size });
    for (const [objectId, { place }] of this.#spilled) placed.push({ objectId, place: 'spilled', size: place.size });
    for (const { objectId, size } of this.#copies.whole()) placed.push({ objectId, place: 'copy', size });
    return placed.sort((a, b) => b.size - a.size);
  }

  /** How many objects here have an owner that `isMeant`. */
  keptFor(isMeant: (ownerId: WorkerId) => boolean): number {
    let count = 0;
    for (const { ownerId } of this.#table.objects()) if (isMeant(ownerId)) count += 1;
    for (const { ownerId } of this.#spilled.values()) if (isMeant(ownerId)) count += 1;
    return count;
  }

  /** Waits until there is room; null: in a slab that `holder` has. Rejects with StoreFullError or OutOfDiskError. */
  lease(size: number, holder: Holder, isGone: () => boolean): Promise<SlabLease | null> {
    const isOver = () => isGone() || this.#table.hasEmpty(size, holder);
    return this.#room.lease(size, holder, isOver, () => this.#table.unusedOf(size, holder));
  }
  giveBack(slab: number, holder: Holder): void {
    this.#table.giveBack(slab, holder);
    this.#room.wake();
  }

  /** A process sealed an object in a slab of its own. Returns false when it lies elsewhere: the process is broken or hostile. */
  sealed(sealed: wire.Sealed.$Properties, holder: Holder): boolean {
    const { slab, offset, size, serial } = sealed.location ?? {};
    const objectId = (sealed.objectId ?? '') as ObjectId;
    this.#unspill(objectId); // what was there was damaged: it has been made again
    const isRight = this.#table.sealed(
      {
        objectId,
        slab: slab ?? 0,
        offset: offset ?? 0,
        size: size ?? 0,
        serial: serial ?? 0,
        ownerId: (sealed.ownerWorkerId ?? '') as WorkerId,
      },
      holder,
    );
    this.#room.filled(size ?? 0);
    return isRight;
  }

  /** Opens an object of this node for reading by the node itself; it stays where it is until `close`. Null: it is not here. */
  open(objectId: ObjectId): TransferRead | null {
    const reader = {};
    const here = this.#table.find(objectId);
    if (here) {
      this.#hold(objectId, reader);
      const memory = new Uint8Array(this.#arena.readable(here.offset, here.size, () => {}));
      return {
        size: here.size,
        read: async (from, length) => memory.subarray(from, from + length),
        close: () => this.#letGo(objectId, reader),
      };
    }
    const spilled = this.#spilled.get(objectId);
    if (!spilled) return this.#openCopy(objectId, reader);
    const { place } = spilled;
    const mapped = this.#files.map(place).catch((cause: Error) => {
      throw new ObjectLostError({ objectId, detail: `on disk it cannot be read: ${cause.message}` }, { cause });
    });
    return {
      size: mapped.then(({ byteLength }) => byteLength),
      read: async (from, length) => new Uint8Array(await mapped, from, length),
      close: () => {},
    };
  }

  /** A copy, also one that is on its way. */
  #openCopy(objectId: ObjectId, reader: Holder): TransferRead | null {
    const copy = this.#copies.open(objectId, reader);
    if (!copy) return null;
    let memory: Uint8Array | null = null;
    return {
      size: copy.size,
      read: async (from, length) => {
        const offset = await copy.offsetOnce(from + length);
        memory ??= new Uint8Array(this.#arena.readable(offset, await copy.size, () => {}));
        return memory.subarray(from, from + length);
      },
      close: copy.close,
    };
  }

  /** An owner on this node let go of an object, here or elsewhere. */
  freedByOwner(objectId: ObjectId, location: wire.Location.$Properties): void {
    if (location.nodeId === this.#nodeId) this.freed(objectId);
    else if (location.transfer) tellFreed(location.transfer, objectId, this.#token);
  }

  freed(objectId: ObjectId): void {
    this.#unspill(objectId);
    const object = this.#table.find(objectId);
    if (!object) return;
    if (this.#held.has(objectId) || !this.#arena.revoke(object.offset, object.slab, object.serial))
      this.#zombies.set(objectId, object);
    else this.#vacate(object);
  }

  /** Brings an object here, once for all who read it; pinned for `holder` unless it is read from a file. */
  async pull(objectId: ObjectId, from: wire.Location.$Properties, holder: Holder): Promise<Pulled> {
    const here = this.#table.find(objectId);
    if (here) {
      this.#hold(objectId, holder);
      const { offset, size, slab } = here;
      return { location: { nodeId: this.#nodeId, offset, size, slab } };
    }
    const copy = this.#copies.pin(objectId, holder);
    if (copy !== null) return this.#pulled(await copy);
    const spilled = this.#spilled.get(objectId)?.place;
    if (spilled) {
      const { offset, size, crc, file } = spilled;
      this.#files.hold(file, holder);
      return { location: { nodeId: this.#nodeId, offset, size }, file: file.path, crc };
    }
    if (from.nodeId === this.#nodeId) {
      if (await whenSealed(() => this.#table.find(objectId))) return this.pull(objectId, from, holder);
      throw new ObjectLostError({ objectId, detail: 'its owner has let go of it' });
    }
    if (!from.transfer)
      throw new ObjectLostError({ objectId, detail: `node ${from.nodeId} has no door that this node can reach` });
    const fetched = this.#copies.make(objectId, holder, async (allocate, arrived) => {
      const options = { token: this.#token, door: this.transfer, arena: this.#arena, allocate, arrived };
      const { size } = await pullObject(from, objectId, options);
      return size;
    });
    return this.#pulled(await fetched);
  }

  /** @param file the one that it was read from; empty: it lay in the arena */
  releasePull(objectId: ObjectId, file: string, holder: Holder): void {
    if (file !== '') this.#files.letGo(file, holder);
    else if (!this.#letGo(objectId, holder)) this.#copies.unpin(objectId, holder);
  }

  /** @param reader its bit in the table of pins */
  processGone(holder: Holder, workerId: WorkerId, reader: number | null): void {
    if (reader !== null) for (const { offset } of this.#table.objects()) this.#arena.unpin(offset, reader);
    for (const objectId of [...this.#held.keys()]) while (this.#letGo(objectId, holder));
    this.#copies.processGone(holder);
    this.#files.readerGone(holder);
    this.#table.processGone(holder);
    this.ownerGone(workerId);
    this.#bury();
    this.#room.wake();
  }

  /** The process that owned objects is gone, from this node or another: what was made here for it is nobody's. */
  ownerGone(workerId: WorkerId): void {
    const ids: ObjectId[] = [];
    for (const { objectId, ownerId } of this.#table.objects()) if (ownerId === workerId) ids.push(objectId);
    for (const [objectId, { ownerId }] of this.#spilled) if (ownerId === workerId) ids.push(objectId);
    for (const objectId of ids) this.freed(objectId);
  }

  #pulled(place: { readonly offset: number; readonly size: number }): Pulled {
    return { location: { ...place, nodeId: this.#nodeId } };
  }

  #unspill(objectId: ObjectId): void {
    const spilled = this.#spilled.get(objectId);
    if (!spilled) return;
    this.#spilled.delete(objectId);
    this.#files.drop(spilled.place);
  }

  #moved(object: StoredObject, place: DiskPlace): void {
    if (this.#zombies.has(object.objectId)) this.#files.drop(place);
    else this.#spilled.set(object.objectId, { ownerId: object.ownerId, place });
    this.#vacate(object);
  }

  #vacate({ objectId, slab, offset, serial }: StoredObject): void {
    this.#zombies.delete(objectId);
    const holder = this.#table.freed(objectId);
    if (holder)
      this.#news.vacated(holder, {
        objectId,
        location: { slab, offset, serial },
        isWanted: this.#room.isWanted(holder),
      });
    this.#room.wake();
  }

  /** Frees what was freed while somebody read it, and nobody does any more. */
  #bury(): void {
    for (const object of [...this.#zombies.values()]) this.freed(object.objectId);
  }

  #hold(objectId: ObjectId, holder: Holder): void {
    const holders = this.#held.get(objectId) ?? new Map<Holder, number>();
    holders.set(holder, (holders.get(holder) ?? 0) + 1);
    this.#held.set(objectId, holders);
  }
  #letGo(objectId: ObjectId, holder: Holder): boolean {
    const holders = this.#held.get(objectId);
    const count = holders?.get(holder) ?? 0;
    if (!holders || count === 0) return false;
    if (count > 1) holders.set(holder, count - 1);
    else holders.delete(holder);
    if (holders.size === 0) this.#held.delete(objectId);
    if (this.#zombies.has(objectId)) this.freed(objectId);
    return true;
  }
}
