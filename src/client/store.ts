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
}

const SLAB_BYTES_MAX = 64 * 1024 * 1024;
const SLABS_PER_STORE = 32;

const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

export class ObjectStore {
  readonly #agent: AgentLink;
  readonly #path: string;
  readonly #arenaBytes: number;
  readonly #nodeId: NodeId;
  readonly #transfer: string;
  readonly #slabs: LeasedSlab[] = [];
  readonly #held = new Map<string, { readonly slab: LeasedSlab; readonly region: Region }>();
  readonly #waiting: (() => void)[] = [];
  #arena: NativeArena | null = null;

  constructor(agent: AgentLink, attached: wire.Attached) {
    this.#agent = agent;
    this.#path = attached.arenaPath;
    this.#arenaBytes = attached.arenaBytes;
    this.#nodeId = attached.nodeId as NodeId;
    this.#transfer = attached.transfer;
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
      this.#held.set(objectId, { slab, region });
      return this.#write(objectId, ownerId, layout, slab, region);
    }
    return null;
  }

  /** As {@link tryWrite}, leasing another slab when needed. Rejects with StoreFullError. */
  async write(objectId: string, ownerId: string, layout: StoredLayout): Promise<wire.Location.$Properties> {
    for (;;) {
      const there = this.tryWrite(objectId, ownerId, layout);
      if (there) return there;
      // Another slab, or room in one of ours, whichever comes first.
      await new Promise<void>((resolve, reject) => {
        this.#waiting.push(resolve);
        this.#grow(pages(layout.bytes)).then(resolve, reject);
      });
    }
  }

  async #grow(bytes: number): Promise<void> {
    const usual = pages(Math.min(SLAB_BYTES_MAX, Math.floor(this.#arenaBytes / SLABS_PER_STORE)));
    const slab = await this.#agent.leaseSlab(Math.max(usual, bytes));
    this.#slabs.push({ slab, free: [{ offset: slab.offset, size: slab.size }] });
  }

  /** The bytes of an object of this node: a private view; `onRelease` runs when nobody holds it any more. */
  map(location: wire.Location.$Properties, onRelease: () => void): ArrayBuffer {
    const arena = this.#open();
    const offset = location.offset ?? 0;
    const size = location.size ?? 0;
    return arena.readable(offset, size, () => {
      arena.forget(offset, size);
      onRelease();
    });
  }

  /** Gives the region of an object in one of our slabs back to allocation. */
  reclaim(objectId: string): void {
    const held = this.#held.get(objectId);
    if (!held) return;
    this.#held.delete(objectId);
    for (const tryAgain of this.#waiting.splice(0)) queueMicrotask(tryAgain);
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
  }

  #write(
    objectId: string,
    ownerId: string,
    layout: StoredLayout,
    { slab }: LeasedSlab,
    region: Region,
  ): wire.Location.$Properties {
    const arena = this.#open();
    for (const part of layout.parts) arena.write(region.offset + part.at, [part.bytes]);
    const location = {
      nodeId: this.#nodeId,
      transfer: this.#transfer,
      slab: slab.slab,
      offset: region.offset,
      size: layout.bytes,
      incarnation: slab.incarnation,
    };
    this.#agent.sealed({ objectId, location, ownerWorkerId: ownerId });
    return location;
  }

  #open(): NativeArena {
    this.#arena ??= native().openArena({ path: this.#path, bytes: this.#arenaBytes });
    return this.#arena;
  }
}
