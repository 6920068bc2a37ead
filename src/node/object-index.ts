// The large objects of this node: those that its processes made, and copies of others' that they read.
import { type NodeId, type ObjectId, ObjectLostError, type WorkerId } from '../common/index.js';
import type { NativeArena } from '../native/index.js';
import type { wire } from '../protocol/index.js';
import { type Holder, type SlabLease, SlabTable } from './slab-table.js';
import { pullObject, tellFreed } from './transfer.js';

interface Copy {
  readonly location: Promise<wire.Location.$Properties>;
  readonly pins: Map<Holder, number>;
  slab: number | null;
}

const COPIES: Holder = { name: 'copies' };

export class ObjectIndex {
  readonly #nodeId: NodeId;
  readonly #token: string;
  readonly #arena: NativeArena;
  readonly #table: SlabTable;
  readonly #copies = new Map<ObjectId, Copy>();
  readonly #notify: (holder: Holder, objectId: ObjectId) => void;
  /** host:port of our transfer server; empty in a cluster bound to one machine. */
  transfer = '';

  /** @param notify tells the process whose slab an object lay in that the region may be used again */
  constructor(nodeId: NodeId, token: string, arena: NativeArena, notify: (holder: Holder, objectId: ObjectId) => void) {
    this.#nodeId = nodeId;
    this.#token = token;
    this.#arena = arena;
    this.#table = new SlabTable(nodeId, arena.bytes);
    this.#notify = notify;
  }

  get usedBytes(): number {
    return this.#table.usedBytes;
  }

  lease(size: number, holder: Holder): SlabLease {
    return this.#table.lease(size, holder);
  }
  giveBack(slab: number, holder: Holder): void {
    this.#table.giveBack(slab, holder);
  }

  /** A process sealed an object in a slab of its own. Returns false when it lies elsewhere: the process is broken or hostile. */
  sealed(sealed: wire.Sealed.$Properties, holder: Holder): boolean {
    const { slab, offset, size } = sealed.location ?? {};
    return this.#table.sealed(
      {
        objectId: (sealed.objectId ?? '') as ObjectId,
        slab: slab ?? 0,
        offset: offset ?? 0,
        size: size ?? 0,
        ownerId: (sealed.ownerWorkerId ?? '') as WorkerId,
      },
      holder,
    );
  }

  find(objectId: ObjectId): { readonly offset: number; readonly size: number } | null {
    return this.#table.find(objectId);
  }

  /** An owner on this node let go of an object, here or elsewhere. */
  freedByOwner(objectId: ObjectId, location: wire.Location.$Properties): void {
    if (location.nodeId === this.#nodeId) this.freed(objectId);
    else if (location.transfer) tellFreed(location.transfer, objectId, this.#token);
  }

  freed(objectId: ObjectId): void {
    const holder = this.#table.freed(objectId);
    if (holder) this.#notify(holder, objectId);
  }

  /** Brings an object here, once for all who read it; pinned for `holder`. */
  async pull(objectId: ObjectId, from: wire.Location.$Properties, holder: Holder): Promise<wire.Location.$Properties> {
    const here = this.#table.find(objectId);
    if (here) return { nodeId: this.#nodeId, offset: here.offset, size: here.size, slab: here.slab };
    if (!from.transfer)
      throw new ObjectLostError({ objectId, detail: `node ${from.nodeId} has no door that this node can reach` });
    const copy = this.#copies.get(objectId) ?? this.#fetch(objectId, from);
    copy.pins.set(holder, (copy.pins.get(holder) ?? 0) + 1);
    return copy.location;
  }

  releasePull(objectId: ObjectId, holder: Holder): void {
    const copy = this.#copies.get(objectId);
    const count = copy?.pins.get(holder) ?? 0;
    if (!copy || count === 0) return;
    if (count > 1) copy.pins.set(holder, count - 1);
    else copy.pins.delete(holder);
    this.#dropUnpinned(objectId, copy);
  }

  processGone(holder: Holder, workerId: WorkerId): void {
    for (const [objectId, copy] of [...this.#copies]) if (copy.pins.delete(holder)) this.#dropUnpinned(objectId, copy);
    for (const notice of this.#table.processGone(holder, workerId)) this.#notify(notice.holder, notice.objectId);
  }

  /** A process of another node is gone: what was made here for it is nobody's. */
  ownerGone(workerId: WorkerId): void {
    for (const notice of this.#table.ownerGone(workerId)) this.#notify(notice.holder, notice.objectId);
  }

  #fetch(objectId: ObjectId, from: wire.Location.$Properties): Copy {
    const pins = new Map<Holder, number>();
    const pulled = pullObject(from, objectId, this.#token, this.#arena, (size) => {
      const slab = this.#table.lease(size, COPIES);
      copy.slab = slab.slab;
      return slab.offset;
    });
    const copy: Copy = {
      pins,
      slab: null,
      location: pulled.then(
        ({ offset, size }) => ({ nodeId: this.#nodeId, offset, size, slab: copy.slab ?? 0 }),
        (error: unknown) => {
          this.#drop(objectId, copy);
          throw error;
        },
      ),
    };
    this.#copies.set(objectId, copy);
    return copy;
  }
  #dropUnpinned(objectId: ObjectId, copy: Copy): void {
    if (copy.pins.size > 0) return;
    copy.location.then(
      () => {
        if (copy.pins.size === 0) this.#drop(objectId, copy);
      },
      () => {}, // dropped when the fetch failed
    );
  }
  #drop(objectId: ObjectId, copy: Copy): void {
    if (this.#copies.get(objectId) !== copy) return;
    this.#copies.delete(objectId);
    if (copy.slab !== null) this.#table.giveBack(copy.slab, COPIES);
  }
}
