// Room in the arena for who asks: free, else processes collect their garbage, else objects move to disk. That begins before the
// arena is full; whoever asks when it is waits, and that is how makers of objects are slowed down to the speed of the disk.
import { setTimeout as sleep } from 'node:timers/promises';
import { OutOfDiskError, StoreFullError } from '../common/index.js';
import type { Holder, SlabLease, SlabTable } from './slab-table.js';

/** How long one waits while nothing can be moved: 40 times 50 ms. */
const FRUITLESS_MAX = 40;
const WAIT_MS = 50;
/** So long after it was of no use processes are not asked again to collect. */
const COLLECT_MS_MIN = 2_000;
/** This part of the arena is kept free of objects, as in Ray; or room for one more as large as the last, up to that part. */
const AHEAD_SHARE = 1 / 5;
const AHEAD_SHARE_MAX = 1 / 3;

export interface RoomMakers {
  /** A part of the arena is in use that may never have been. */
  readonly reached: () => void;
  /** Asks all processes to let go of what they do not use; resolves when they have. */
  readonly collect: () => Promise<void>;
  /** Moves objects of about so many bytes to disk; resolves to how many. Rejects with OutOfDiskError. */
  readonly spill: (bytes: number) => Promise<number>;
}

export class Room {
  readonly #table: SlabTable;
  readonly #makers: RoomMakers;
  readonly #waiting: Holder[] = [];
  #wakers: (() => void)[] = [];
  #lastCollectMs = Number.NEGATIVE_INFINITY; // the last that was of no use
  #lastBytes = 0;
  #isAhead = false;

  constructor(table: SlabTable, makers: RoomMakers) {
    this.#table = table;
    this.#makers = makers;
  }

  /** Whether somebody else than `holder` waits for room. */
  isWanted(holder: Holder): boolean {
    return this.#waiting.some((waiting) => waiting !== holder);
  }

  /** Something was freed. */
  readonly wake = (): void => {
    for (const waker of this.#wakers.splice(0)) waker();
  };

  /** Objects came, the last of so many bytes: room for the next is made in time. */
  filled(bytes: number): void {
    this.#lastBytes = bytes;
    if (this.#isAhead || this.#overBytes <= 0) return;
    this.#isAhead = true;
    this.#makeAhead()
      .catch((error: unknown) => {
        if (!(error instanceof OutOfDiskError)) throw error; // else whoever needs the room is told when asking for it
      })
      .finally(() => {
        this.#isAhead = false;
      });
  }

  /**
   * What is free; or waits until there is room, or `own` gives something that the holder has. Null: it `isOver`. Rejects with StoreFullError or
   * OutOfDiskError.
   */
  async lease(
    size: number,
    holder: Holder,
    isOver: () => boolean,
    own: () => SlabLease | null = () => null,
  ): Promise<SlabLease | null> {
    const now = this.#leaseNow(size, holder);
    if (now) return now;
    if (size > this.#table.capacity) return this.#table.lease(size, holder); // says so
    this.#waiting.push(holder);
    try {
      return await this.#make(size, holder, isOver, own);
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(holder), 1);
    }
  }

  #leaseNow(size: number, holder: Holder): SlabLease | null {
    try {
      const lease = this.#table.lease(size, holder);
      this.#makers.reached();
      return lease;
    } catch (error) {
      if (error instanceof StoreFullError) return null;
      throw error;
    }
  }

  async #make(
    size: number,
    holder: Holder,
    isOver: () => boolean,
    own: () => SlabLease | null,
  ): Promise<SlabLease | null> {
    let diskError: OutOfDiskError | null = null;
    for (let fruitless = 0; fruitless < FRUITLESS_MAX; ) {
      if (isOver()) return null;
      const unused = own();
      if (unused) return unused;
      if (this.#mayCollect) {
        await this.#makers.collect();
        const collected = this.#leaseNow(size, holder);
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
      const lease = this.#leaseNow(size, holder);
      if (lease) return lease;
      await this.#freed();
      const late = this.#leaseNow(size, holder);
      if (late) return late;
    }
    if (diskError) throw diskError;
    return this.#table.lease(size, holder); // says what there is
  }

  async #makeAhead(): Promise<void> {
    if (this.#mayCollect) {
      await this.#makers.collect();
      if (this.#overBytes > 0) this.#lastCollectMs = performance.now();
    }
    while (this.#overBytes > 0) if ((await this.#makers.spill(this.#overBytes)) === 0) return;
  }

  get #mayCollect(): boolean {
    return performance.now() - this.#lastCollectMs > COLLECT_MS_MIN;
  }

  /** By how much the objects in the arena are more than leaves room for others. */
  get #overBytes(): number {
    const { capacity, objectBytes } = this.#table;
    const kept = Math.max(capacity * AHEAD_SHARE, Math.min(this.#lastBytes, capacity * AHEAD_SHARE_MAX));
    return objectBytes - (capacity - kept);
  }

  async #freed(): Promise<void> {
    const over = new AbortController();
    const woken = new Promise<void>((resolve) => this.#wakers.push(resolve));
    await Promise.race([woken, sleep(WAIT_MS, undefined, { signal: over.signal }).catch(() => {})]);
    over.abort();
  }
}
