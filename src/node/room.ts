// Room in the arena for who asks: free, else what can be had again elsewhere goes, else processes collect their garbage, else
// objects move to disk. Whoever asks waits meanwhile: that is how makers of objects are slowed down to the speed of the disk.
import { setTimeout as sleep } from 'node:timers/promises';
import { OutOfDiskError, StoreFullError } from '../common/index.js';
import type { Holder, SlabLease, SlabTable } from './slab-table.js';

/** How long one waits while nothing can be moved: 40 times 50 ms. */
const FRUITLESS_MAX = 40;
const WAIT_MS = 50;
/** So long after it was of no use processes are not asked again to collect. */
const COLLECT_MS_MIN = 2_000;

export interface RoomMakers {
  /** A part of the arena is in use that may never have been. */
  readonly reached: () => void;
  /** Drops one copy of an object that is elsewhere too; false when there is none. */
  readonly evict: () => boolean;
  /** Asks all processes to let go of what they do not use; resolves when they have. */
  readonly collect: () => Promise<void>;
  /** Moves objects of about so many bytes to disk; resolves to how many. */
  readonly spill: (bytes: number) => Promise<number>;
}

export class Room {
  readonly #table: SlabTable;
  readonly #makers: RoomMakers;
  #waiting = 0;
  #wakers: (() => void)[] = [];
  #lastCollectMs = Number.NEGATIVE_INFINITY; // the last that was of no use

  constructor(table: SlabTable, makers: RoomMakers) {
    this.#table = table;
    this.#makers = makers;
  }

  /** Whether somebody waits for room. */
  get isWanted(): boolean {
    return this.#waiting > 0;
  }

  /** Something was freed. */
  readonly wake = (): void => {
    for (const waker of this.#wakers.splice(0)) waker();
  };

  /** What is free, or becomes so by evicting; null when that is not enough. */
  leaseNow(size: number, holder: Holder): SlabLease | null {
    for (;;) {
      try {
        const lease = this.#table.lease(size, holder);
        this.#makers.reached();
        return lease;
      } catch (error) {
        if (!(error instanceof StoreFullError)) throw error;
        if (!this.#makers.evict()) return null;
      }
    }
  }

  /** As `leaseNow`, and waits until there is room. Rejects with StoreFullError or OutOfDiskError, or when `isGone`. */
  async lease(size: number, holder: Holder, isGone: () => boolean = () => false): Promise<SlabLease> {
    const now = this.leaseNow(size, holder);
    if (now) return now;
    if (size > this.#table.capacity) return this.#table.lease(size, holder); // says so
    this.#waiting += 1;
    try {
      return await this.#make(size, holder, isGone);
    } finally {
      this.#waiting -= 1;
    }
  }

  async #make(size: number, holder: Holder, isGone: () => boolean): Promise<SlabLease> {
    let diskError: OutOfDiskError | null = null;
    for (let fruitless = 0; fruitless < FRUITLESS_MAX && !isGone(); ) {
      if (performance.now() - this.#lastCollectMs > COLLECT_MS_MIN) {
        await this.#makers.collect();
        const collected = this.leaseNow(size, holder);
        if (collected) return collected;
        this.#lastCollectMs = performance.now();
      } else {
        const moved = await this.#makers.spill(size).catch((error: unknown) => {
          if (!(error instanceof OutOfDiskError)) throw error;
          diskError = error;
          return 0;
        });
        fruitless += moved > 0 ? 0 : 1;
      }
      const lease = this.leaseNow(size, holder);
      if (lease) return lease;
      await this.#freed();
      const late = this.leaseNow(size, holder);
      if (late) return late;
    }
    if (diskError) throw diskError;
    return this.#table.lease(size, holder); // says what there is
  }

  async #freed(): Promise<void> {
    const over = new AbortController();
    const woken = new Promise<void>((resolve) => this.#wakers.push(resolve));
    await Promise.race([woken, sleep(WAIT_MS, undefined, { signal: over.signal }).catch(() => {})]);
    over.abort();
  }
}
