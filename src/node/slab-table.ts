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
  readonly incarnation: number;
}
interface Slab extends SlabLease {
  holder: Holder | null; // null: its process is gone, its objects are not
  readonly objects: Set<ObjectId>;
}
export interface StoredObject {
  readonly objectId: ObjectId;
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
  readonly ownerId: WorkerId;
}

const PAGE_BYTES = 4096;

export class SlabTable {
  readonly capacity: number;
  readonly #nodeId: NodeId;
  readonly #slabs = new Map<number, Slab>();
  readonly #objects = new Map<ObjectId, StoredObject>();
  readonly #free: { offset: number; size: number }[];
  #nextSlab = 1;
  #used = 0;

  constructor(nodeId: NodeId, capacity: number) {
    this.#nodeId = nodeId;
    this.capacity = capacity;
    this.#free = [{ offset: 0, size: capacity }];
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** Leases `size` bytes (rounded up to pages) to `holder`. Throws StoreFullError. */
  lease(size: number, holder: Holder): SlabLease {
    const bytes = Math.ceil(size / PAGE_BYTES) * PAGE_BYTES;
    const at = this.#free.findIndex((region) => region.size >= bytes);
    const region = this.#free[at];
    if (!region || !(bytes > 0))
      throw new StoreFullError({ nodeId: this.#nodeId, requestedBytes: size, capacityBytes: this.capacity });
    const id = this.#nextSlab++;
    const slab: Slab = { slab: id, offset: region.offset, size: bytes, incarnation: id, holder, objects: new Set() };
    region.offset += bytes;
    region.size -= bytes;
    if (region.size === 0) this.#free.splice(at, 1);
    this.#slabs.set(id, slab);
    this.#used += bytes;
    return { slab: id, offset: slab.offset, size: bytes, incarnation: id };
  }

  /** Gives a slab back that its holder no longer wants. */
  giveBack(slabId: number, holder: Holder): void {
    const slab = this.#slabs.get(slabId);
    if (slab?.holder !== holder) return;
    slab.holder = null;
    this.#collect(slab);
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
    slab.objects.add(object.objectId);
    this.#objects.set(object.objectId, object);
    return true;
  }

  find(objectId: ObjectId): StoredObject | null {
    return this.#objects.get(objectId) ?? null;
  }

  /** Forgets an object. Returns the process whose slab it lay in, which may use the region again; null if that is gone. */
  freed(objectId: ObjectId): Holder | null {
    const object = this.#objects.get(objectId);
    if (!object) return null;
    this.#objects.delete(objectId);
    const slab = this.#slabs.get(object.slab);
    if (!slab) return null;
    slab.objects.delete(objectId);
    this.#collect(slab);
    return slab.holder;
  }

  /** A process is gone: what it owned goes, and its slabs as soon as nothing of others lies in them. */
  processGone(holder: Holder, ownerId: WorkerId): readonly { readonly objectId: ObjectId; readonly holder: Holder }[] {
    for (const slab of this.#slabs.values()) if (slab.holder === holder) slab.holder = null;
    const notices = this.ownerGone(ownerId);
    for (const slab of [...this.#slabs.values()]) this.#collect(slab);
    return notices;
  }

  /** The objects of an owner go. Returns those whose region another process may use again. */
  ownerGone(ownerId: WorkerId): readonly { readonly objectId: ObjectId; readonly holder: Holder }[] {
    const notices: { objectId: ObjectId; holder: Holder }[] = [];
    for (const object of [...this.#objects.values()]) {
      if (object.ownerId !== ownerId) continue;
      const kept = this.freed(object.objectId);
      if (kept) notices.push({ objectId: object.objectId, holder: kept });
    }
    return notices;
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
