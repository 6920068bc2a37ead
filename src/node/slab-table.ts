// Who has which part of the arena, and which objects lie there. Pure: no memory is touched here.
//
// 0 <= used <= capacity; slabs do not overlap; a slab without a holder and without live objects is free again.
import { type NodeId, type ObjectId, StoreFullError, type WorkerId } from '../common/index.js';

/** A process that holds slabs or owns objects: its connection to the agent, compared by identity. */
export type Holder = object;

export interface SlabLease {
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
}
interface Slab extends SlabLease {
  holder: Holder | null; // null: its process is gone, its objects are not
  readonly objects: Set<ObjectId>;
  /** Something was sealed in it. */
  isUsed: boolean;
}
export interface StoredObject {
  readonly objectId: ObjectId;
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
  /** With the slab: which object it is that lies at the offset. */
  readonly serial: number;
  readonly ownerId: WorkerId;
}

const PAGE_BYTES = 4096;
const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

export class SlabTable {
  readonly capacity: number;
  readonly #nodeId: NodeId;
  readonly #slabs = new Map<number, Slab>();
  readonly #objects = new Map<ObjectId, StoredObject>(); // oldest first
  readonly #free: { offset: number; size: number }[];
  #nextSlab = 1;
  #used = 0;
  #objectBytes = 0;
  #reached = 0;

  constructor(nodeId: NodeId, capacity: number) {
    this.#nodeId = nodeId;
    this.capacity = capacity;
    this.#free = [{ offset: 0, size: capacity }];
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** What the objects take, whole pages. */
  get objectBytes(): number {
    return this.#objectBytes;
  }

  /** The end of the part of the arena that was ever leased. */
  get reachedBytes(): number {
    return this.#reached;
  }

  /** Leases `size` bytes (rounded up to pages) to `holder`. Throws StoreFullError. */
  lease(size: number, holder: Holder): SlabLease {
    const bytes = pages(size);
    const at = this.#free.findIndex((region) => region.size >= bytes);
    const region = this.#free[at];
    if (!region || !(bytes > 0))
      throw new StoreFullError({ nodeId: this.#nodeId, requestedBytes: size, capacityBytes: this.capacity });
    const id = this.#nextSlab++;
    const slab: Slab = { slab: id, offset: region.offset, size: bytes, holder, objects: new Set(), isUsed: false };
    region.offset += bytes;
    region.size -= bytes;
    if (region.size === 0) this.#free.splice(at, 1);
    this.#slabs.set(id, slab);
    this.#used += bytes;
    this.#reached = Math.max(this.#reached, slab.offset + bytes);
    return { slab: id, offset: slab.offset, size: bytes };
  }

  /** Gives a slab back that its holder no longer wants. */
  giveBack(slabId: number, holder: Holder): void {
    const slab = this.#slabs.get(slabId);
    if (slab?.holder !== holder) return;
    slab.holder = null;
    this.#collect(slab);
  }

  /** Whether a slab of `holder` has `size` bytes and nothing in it any more: it may not have heard yet that what was there is gone. */
  hasEmpty(size: number, holder: Holder): boolean {
    for (const slab of this.#slabs.values())
      if (slab.holder === holder && slab.size >= size && slab.isUsed && slab.objects.size === 0) return true;
    return false;
  }

  /** A slab of `holder` with `size` bytes that it never used, though it asks for more: the answer that leased it did not arrive. */
  unusedOf(size: number, holder: Holder): SlabLease | null {
    for (const { slab, offset, size: bytes, holder: of, isUsed } of this.#slabs.values())
      if (of === holder && bytes >= size && !isUsed) return { slab, offset, size: bytes };
    return null;
  }

  /** Notes an object. Returns false when it does not lie inside a slab of `holder`. */
  sealed(object: StoredObject, holder: Holder): boolean {
    const slab = this.#slabs.get(object.slab);
    const isInside =
      slab?.holder === holder &&
      object.offset >= slab.offset &&
      object.size > 0 &&
      object.offset + object.size <= slab.offset + slab.size;
    if (!isInside) return false;
    this.#objectBytes += pages(object.size) - pages(this.#objects.get(object.objectId)?.size ?? 0);
    slab.objects.add(object.objectId);
    slab.isUsed = true;
    this.#objects.set(object.objectId, object);
    return true;
  }

  find(objectId: ObjectId): StoredObject | null {
    return this.#objects.get(objectId) ?? null;
  }
  /** All objects, the one that was sealed first before the others. */
  objects(): Iterable<StoredObject> {
    return this.#objects.values();
  }

  /** Forgets an object. Returns the process whose slab it lay in, which may use the region again; null if that is gone. */
  freed(objectId: ObjectId): Holder | null {
    const object = this.#objects.get(objectId);
    if (!object) return null;
    this.#objects.delete(objectId);
    this.#objectBytes -= pages(object.size);
    const slab = this.#slabs.get(object.slab);
    if (!slab) return null;
    slab.objects.delete(objectId);
    this.#collect(slab);
    return slab.holder;
  }

  /** A process is gone: its slabs are free as soon as nothing lies in them. */
  processGone(holder: Holder): void {
    for (const slab of [...this.#slabs.values()]) {
      if (slab.holder !== holder) continue;
      slab.holder = null;
      this.#collect(slab);
    }
  }

  #collect(slab: Slab): void {
    if (slab.holder !== null || slab.objects.size > 0 || !this.#slabs.delete(slab.slab)) return;
    this.#used -= slab.size;
    let at = this.#free.findIndex((region) => region.offset > slab.offset);
    if (at < 0) at = this.#free.length;
    const region = { offset: slab.offset, size: slab.size };
    this.#free.splice(at, 0, region);
    const next = this.#free[at + 1];
    if (next && region.offset + region.size === next.offset) {
      region.size += next.size;
      this.#free.splice(at + 1, 1);
    }
    const before = this.#free[at - 1];
    if (before && before.offset + before.size === region.offset) {
      before.size += region.size;
      this.#free.splice(at, 1);
    }
  }
}
