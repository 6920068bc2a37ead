// Shared memory as one process sees it: slabs that the agent leased to it, allocation inside them, mapped reads.
import type { NodeId } from '../common/index.js';
import { type NativeArena, type NativeAside, native } from '../native/index.js';
import type { wire } from '../protocol/index.js';
import type { AgentLink } from './agent-link.js';
import { Asides } from './asides.js';
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
/** A value that waits for room. */
interface Waiting {
  readonly objectId: string;
  readonly ownerId: string;
  readonly bytes: number;
  readonly aside: NativeAside;
  readonly resolve: (location: wire.Location.$Properties) => void;
  readonly reject: (error: Error) => void;
}
interface Held {
  readonly slab: LeasedSlab;
  readonly region: Region;
  readonly serial: number;
}

const SLAB_BYTES_MAX = 64 * 1024 * 1024;
const SLABS_PER_STORE = 32;
/** Of objects from here on the agent hears at once, so that it makes room for the next while this process goes on. */
const LARGE_BYTES = 1024 * 1024;
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
  readonly #asides = new Asides();
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

  /**
   * Writes a value into a slab we have; where none has room, copies the value, which may be changed from then on, and waits, in the
   * order of asking. Rejects with StoreFullError or OutOfDiskError.
   */
  write(
    objectId: string,
    ownerId: string,
    layout: StoredLayout,
  ): wire.Location.$Properties | Promise<wire.Location.$Properties> {
    const { bytes, parts } = layout;
    const here = this.#allocate(objectId, bytes);
    if (here) {
      const arena = this.#open();
      for (const part of parts) arena.write(here.region.offset + part.at, [part.bytes]);
      return this.#seal(objectId, ownerId, bytes, here);
    }
    if (this.#waiting.length === 0) this.#grow(bytes);
    const aside = this.#asides.take();
    aside.set(bytes, parts);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ objectId, ownerId, bytes, aside, resolve, reject });
    });
  }

  #allocate(objectId: string, bytes: number): Held | null {
    const size = pages(bytes);
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
      return held;
    }
    return null;
  }

  /** Writes what waits for room, in order; asks for one more slab at a time. */
  #serve(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      const { objectId, ownerId, bytes, aside, resolve } = first;
      const here = this.#allocate(objectId, bytes);
      if (!here) {
        this.#grow(bytes);
        return;
      }
      this.#open().writeAside(here.region.offset, aside);
      this.#waiting.shift();
      this.#asides.giveBack(aside);
      resolve(this.#seal(objectId, ownerId, bytes, here));
    }
  }

  /** Asks for a slab with room for `bytes`. */
  #grow(bytes: number): void {
    if (this.#isGrowing) return;
    this.#isGrowing = true;
    const usual = pages(Math.min(SLAB_BYTES_MAX, Math.floor(this.#arenaBytes / SLABS_PER_STORE)));
    this.#agent
      .leaseSlab(Math.max(usual, pages(bytes)))
      .then(
        (slab) => {
          if (slab.slab === 0) return; // there is room in one that we have
          this.#slabs.push({ slab, free: [{ offset: slab.offset, size: slab.size }], serial: 0 });
        },
        (error: Error) => this.#fail(this.#waiting.splice(0, 1), error),
      )
      .finally(() => {
        this.#isGrowing = false;
        this.#serve();
      })
      .catch((error: unknown) => {
        this.#fail(this.#waiting.splice(0), error as Error); // a write that throws
      });
  }

  #fail(waiting: readonly Waiting[], error: Error): void {
    for (const { aside, reject } of waiting) {
      this.#asides.giveBack(aside);
      reject(error);
    }
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

  /** Tells the agent of an object whose bytes are there. */
  #seal(
    objectId: string,
    ownerId: string,
    size: number,
    { slab: { slab }, region: { offset }, serial }: Held,
  ): wire.Location.$Properties {
    this.#open().publish(offset, slab.slab, serial);
    const location = { nodeId: this.#nodeId, transfer: this.#transfer, slab: slab.slab, offset, size, serial };
    this.#agent.sealed({ objectId, location, ownerWorkerId: ownerId }, size >= LARGE_BYTES);
    return location;
  }

  #open(): NativeArena {
    this.#arena ??= native().openArena({ path: this.#path, bytes: this.#arenaBytes });
    return this.#arena;
  }
}
