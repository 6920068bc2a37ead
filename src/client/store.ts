// Shared memory as one process sees it: slabs that the agent leased to it, allocation inside them, mapped reads.
import type { NodeId } from '../common/index.js';
import { type NativeArena, native } from '../native/index.js';
import type { wire } from '../protocol/index.js';
import type { AgentLink } from './agent-link.js';
import { PAGE_BYTES, type StoredLayout } from './stored-value.js';

interface Region {
  offset: number;
  size: number;
}
interface LeasedSlab {
  readonly slab: wire.Slab;
  readonly free: Region[]; // in order of offset, neighbours merged
  serial: number; // of the last object in it
}
interface Waiting {
  readonly bytes: number;
  readonly tryWrite: () => boolean;
  readonly reject: (error: Error) => void;
}
interface Held {
  readonly slab: LeasedSlab;
  readonly region: Region;
  readonly serial: number;
}

const SLAB_BYTES_MAX = 64 * 1024 * 1024;
const SLABS_PER_STORE = 32;
/** So long after others waited for room an empty slab goes back at once. */
const PRESSED_MS = 2_000;

const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

export class ObjectStore {
  readonly #agent: AgentLink;
  readonly #path: string;
  readonly #arenaBytes: number;
  readonly #nodeId: NodeId;
  readonly #transfer: string;
  readonly #slabs: LeasedSlab[] = [];
  readonly #held = new Map<string, Held>();
  readonly #waiting: Waiting[] = [];
  #isGrowing = false;
  readonly #reader: number | null;
  readonly #mapped = new Map<number, number>(); // views that this process has, by offset
  readonly #unmappedLater = new Map<number, Held>(); // freed while this process still reads them
  #pressedUntilMs = Number.NEGATIVE_INFINITY;
  #arena: NativeArena | null = null;

  constructor(agent: AgentLink, attached: wire.Attached) {
    this.#agent = agent;
    this.#path = attached.arenaPath;
    this.#arenaBytes = attached.arenaBytes;
    this.#nodeId = attached.nodeId as NodeId;
    this.#transfer = attached.transfer;
    this.#reader = attached.reader > 0 ? attached.reader - 1 : null;
  }

  get nodeId(): NodeId {
    return this.#nodeId;
  }

  /** Writes a value into a slab we have, or returns null when none has room. */
  tryWrite(objectId: string, ownerId: string, layout: StoredLayout): wire.Location.$Properties | null {
    const size = pages(layout.bytes);
    for (const slab of this.#slabs) {
      const index = slab.free.findIndex((region) => region.size >= size);
      if (index < 0) continue;
      const from = slab.free[index]!;
      const region = { offset: from.offset, size };
      from.offset += size;
      from.size -= size;
      if (from.size === 0) slab.free.splice(index, 1);
      slab.serial += 1;
      const held = { slab, region, serial: slab.serial };
      this.#held.set(objectId, held);
      return this.#write(objectId, ownerId, layout, held);
    }
    return null;
  }

  /** As {@link tryWrite}, and waits for room: in the order of asking. Rejects with StoreFullError or OutOfDiskError. */
  write(objectId: string, ownerId: string, layout: StoredLayout): Promise<wire.Location.$Properties> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        bytes: pages(layout.bytes),
        tryWrite: () => {
          const there = this.tryWrite(objectId, ownerId, layout);
          if (there) resolve(there);
          return there !== null;
        },
        reject,
      });
      this.#serve();
    });
  }

  /** Writes what waits for room, in order; asks for one more slab at a time. */
  #serve(): void {
    while (this.#waiting[0]?.tryWrite()) this.#waiting.shift();
    const first = this.#waiting[0];
    if (!first || this.#isGrowing) return;
    this.#isGrowing = true;
    const usual = pages(Math.min(SLAB_BYTES_MAX, Math.floor(this.#arenaBytes / SLABS_PER_STORE)));
    this.#agent
      .leaseSlab(Math.max(usual, first.bytes))
      .then(
        (slab) => {
          this.#slabs.push({ slab, free: [{ offset: slab.offset, size: slab.size }], serial: 0 });
        },
        (error: Error) => {
          if (this.#waiting[0] === first) this.#waiting.shift();
          first.reject(error);
        },
      )
      .finally(() => {
        this.#isGrowing = false;
        this.#serve();
      })
      .catch((error: unknown) => {
        for (const waiting of this.#waiting.splice(0)) waiting.reject(error as Error); // a write that throws
      });
  }

  /** The bytes of an object of this node: a private view; null when it has moved. Stays where it is until the view is collected. */
  tryMap(location: wire.Location.$Properties): ArrayBuffer | null {
    const offset = location.offset ?? 0;
    const reader = this.#reader;
    if (reader === null || !this.#open().pin(offset, location.slab ?? 0, location.serial ?? 0, reader)) return null;
    this.#mapped.set(offset, (this.#mapped.get(offset) ?? 0) + 1);
    return this.map(location, () => this.#unmapped(offset, reader));
  }

  /** As {@link tryMap}, of what the agent keeps where it is until `onRelease`, which runs when nobody holds the view any more. */
  map(location: wire.Location.$Properties, onRelease: () => void): ArrayBuffer {
    const arena = this.#open();
    const offset = location.offset ?? 0;
    const size = location.size ?? 0;
    const release = (): void => {
      arena.forget(offset, size);
      onRelease();
    };
    return arena.readable(offset, size, release, true);
  }

  #unmapped(offset: number, reader: number): void {
    const count = (this.#mapped.get(offset) ?? 1) - 1;
    if (count > 0) {
      this.#mapped.set(offset, count);
      return;
    }
    this.#mapped.delete(offset);
    this.#open().unpin(offset, reader);
    const held = this.#unmappedLater.get(offset);
    if (!held) return;
    this.#unmappedLater.delete(offset);
    this.#reuse(held);
  }

  /** The owner, which is this process, let go of an object; or the agent says that its region may be used again. */
  reclaim(objectId: string): void {
    const held = this.#held.get(objectId);
    if (!held) return;
    this.#held.delete(objectId);
    if (this.#mapped.has(held.region.offset)) this.#unmappedLater.set(held.region.offset, held);
    else this.#reuse(held);
  }
  vacated({ objectId, location, isWanted }: wire.Vacated): void {
    if (isWanted) this.#pressedUntilMs = performance.now() + PRESSED_MS;
    const held = this.#held.get(objectId);
    if (held?.slab.slab.slab === location?.slab && held?.serial === location?.serial) this.reclaim(objectId);
  }

  /** Others wait for room. */
  collect(): void {
    this.#pressedUntilMs = performance.now() + PRESSED_MS;
    for (const slab of [...this.#slabs]) this.#returnEmpty(slab);
  }
  #returnEmpty(slab: LeasedSlab): void {
    const at = this.#slabs.indexOf(slab);
    if (at < 0 || slab.free[0]?.size !== slab.slab.size || this.#waiting.length > 0) return;
    this.#slabs.splice(at, 1);
    this.#agent.returnSlab(slab.slab.slab);
  }

  /** Gives a region back to allocation. */
  #reuse(held: Held): void {
    const { free } = held.slab;
    const { region } = held;
    let at = free.findIndex((other) => other.offset > region.offset);
    if (at < 0) at = free.length;
    free.splice(at, 0, region);
    const next = free[at + 1];
    if (next && region.offset + region.size === next.offset) {
      region.size += next.size;
      free.splice(at + 1, 1);
    }
    const before = free[at - 1];
    if (before && before.offset + before.size === region.offset) {
      before.size += region.size;
      free.splice(at, 1);
    }
    this.#serve();
    if (performance.now() < this.#pressedUntilMs) this.#returnEmpty(held.slab);
  }

  #write(
    objectId: string,
    ownerId: string,
    layout: StoredLayout,
    { slab: { slab }, region, serial }: Held,
  ): wire.Location.$Properties {
    const arena = this.#open();
    for (const part of layout.parts) arena.write(region.offset + part.at, [part.bytes]);
    arena.publish(region.offset, slab.slab, serial);
    const location = {
      nodeId: this.#nodeId,
      transfer: this.#transfer,
      slab: slab.slab,
      offset: region.offset,
      size: layout.bytes,
      serial,
    };
    this.#agent.sealed({ objectId, location, ownerWorkerId: ownerId });
    return location;
  }

  #open(): NativeArena {
    this.#arena ??= native().openArena({ path: this.#path, bytes: this.#arenaBytes });
    return this.#arena;
  }
}
