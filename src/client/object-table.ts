// The objects that a process knows: those that it made, those that it borrows, and who borrows its own. It says when nobody here
// holds an object any more; what follows from that (space given back, the owner told) is for whoever made the table.
import { type ObjectId, sequenceOf, type WorkerId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { holdingsOf, StateRecord } from './holdings.js';
import { ObjectRef, type RefKeeper } from './object-ref.js';
import { ObjectState } from './object-state.js';

/** The process whose table it is. A warm worker gets another id when it is assigned. */
export interface ObjectHolder extends RefKeeper {
  readonly workerId: WorkerId;
}

/** What is left of an object whose last ref is gone. */
export interface Leftover {
  readonly id: ObjectId;
  /** Null where it was this process's own. */
  readonly owner: wire.WorkerAddress.$Properties | null;
  /** Where the bytes of an own one lie; null where there are none. */
  readonly location: wire.Location.$Properties | null;
}

export class ObjectTable {
  readonly #holder: ObjectHolder;
  readonly #free: (leftover: Leftover) => void;
  readonly #known = new Map<ObjectId, WeakRef<ObjectState>>(); // exported, stored and borrowed ones
  readonly #pins = new Map<ObjectId, { readonly state: ObjectState; count: number }>(); // borrowed by peers
  readonly #lent = new Map<ObjectId, () => void>(); // what hears of the ends of lent objects
  /** All own objects, where call sites are recorded. */
  readonly #record: StateRecord | null;
  readonly #leftovers = new FinalizationRegistry<Leftover>((leftover) => this.#gone(leftover));
  #nextSequence = 1;
  #unborrowed: (() => void) | null = null;

  /**
   * @param recordsAll keeps a list of all own objects, also of those that nobody else knows of
   * @param free hears of each object that nobody here holds any more
   */
  constructor(holder: ObjectHolder, recordsAll: boolean, free: (leftover: Leftover) => void) {
    this.#holder = holder;
    this.#record = recordsAll ? new StateRecord() : null;
    this.#free = free;
  }

  /** A new object of this process, pending; with `count` the first of so many in a row. */
  create(count = 1): { readonly sequence: number; readonly state: ObjectState } {
    const sequence = this.#nextSequence;
    this.#nextSequence += count;
    return { sequence, state: new ObjectState(this.#holder.workerId, sequence, null) };
  }
  /** An own object that everybody let go of, pending again. */
  revive(id: ObjectId): ObjectState {
    const state = new ObjectState(this.#holder.workerId, sequenceOf(id), { id, owner: null });
    this.#known.set(id, new WeakRef(state));
    return state;
  }
  /** The state of an own or borrowed object, as long as somebody here holds it. */
  find(id: ObjectId): ObjectState | null {
    return this.#known.get(id)?.deref() ?? null;
  }
  /** From now on others may ask for it by its id. */
  remember(state: ObjectState): void {
    if (!this.find(state.id)) this.#known.set(state.id, new WeakRef(state));
  }

  refTo<T>(state: ObjectState): ObjectRef<T> {
    const ref = new ObjectRef<T>(state, this.#holder);
    if (this.#record) {
      state.face = new WeakRef(ref);
      this.#record.note(state);
    }
    return ref;
  }
  /** The ref that code already holds, or one that is the same for all who ask next. */
  faceOf(state: ObjectState): ObjectRef<unknown> {
    const known = state.face?.deref();
    if (known) return known;
    const face = this.refTo<unknown>(state);
    state.face = new WeakRef(face);
    return face;
  }

  /** The bytes of an object lie at `location`; those of an own one are freed with it. */
  settleStored(state: ObjectState, location: wire.Location.$Properties): void {
    this.remember(state);
    if (!state.owner) this.#leftovers.register(state, { id: state.id, owner: null, location }, state);
    state.settle({ kind: 'stored', location });
  }
  /** An object that was lost is pending again. */
  unsettle(state: ObjectState): void {
    if (!state.owner) this.#leftovers.unregister(state);
    state.unsettle();
  }

  /**
   * An own object, pending, is there for other processes: once one of them borrows it, refs here hold nothing. `onFreed` runs when
   * nobody holds it any more.
   */
  addLent(state: ObjectState, onFreed: () => void): void {
    this.remember(state);
    this.#leftovers.register(state, { id: state.id, owner: null, location: null }, state);
    this.#lent.set(state.id, onFreed);
  }
  /** This process leaves: nobody can borrow anything any more. */
  freeLent(): void {
    for (const onFreed of this.#lent.values()) onFreed();
    this.#lent.clear();
  }

  /** A borrowed object, pending, that was not known here. */
  addBorrowed(id: ObjectId, owner: wire.WorkerAddress.$Properties): ObjectState {
    const state = new ObjectState(owner.workerId as WorkerId, 0, { id, owner });
    this.#known.set(id, new WeakRef(state));
    this.#leftovers.register(state, { id, owner, location: null }, state);
    return state;
  }

  /** Code of this process lets go of an object before the garbage collector would. */
  letGo(state: ObjectState): void {
    if (state.content?.kind === 'released') return;
    const location = state.content?.kind === 'stored' ? state.content.location : null;
    const isKnown = this.#leftovers.unregister(state);
    // While others borrow it, only this process's hold ends: the pin's state keeps the content.
    if (this.#pins.has(state.id) && !state.owner) {
      this.#leftovers.register(state, { id: state.id, owner: null, location }, state);
      state.isLetGo = true;
      return;
    }
    state.release();
    this.#known.delete(state.id);
    if (isKnown) this.#gone({ id: state.id, owner: state.owner, location });
  }
  #gone(leftover: Leftover): void {
    if (this.find(leftover.id)) return; // made again meanwhile
    this.#known.delete(leftover.id);
    const onFreed = leftover.owner ? undefined : this.#lent.get(leftover.id);
    this.#lent.delete(leftover.id);
    onFreed?.();
    this.#free(leftover);
  }

  /** A peer holds `delta` refs more (or fewer) to an own object, which is kept meanwhile. */
  borrow(id: ObjectId, delta: number): void {
    const pin = this.#pins.get(id);
    if (pin) {
      pin.count += delta;
      if (pin.count <= 0) {
        this.#pins.delete(id);
        // Nothing collects what lies on a device: what was lent goes at once, unless it came back to this process meanwhile.
        if (this.#lent.has(id) && !pin.state.face?.deref()) this.letGo(pin.state);
      }
      if (this.#pins.size === 0) this.#unborrowed?.();
      return;
    }
    const state = delta > 0 ? this.find(id) : null;
    if (!state) return;
    this.#pins.set(id, { state, count: delta });
    if (this.#lent.has(id)) state.face = null;
  }
  /** Whether another process holds refs of this one's objects. */
  get isBorrowed(): boolean {
    return this.#pins.size > 0;
  }
  /** Calls `listener` when no other process holds refs of this one's objects any more. */
  whenUnborrowed(listener: () => void): void {
    this.#unborrowed = listener;
  }

  /** Own objects whose bytes lie on one of `nodes`. */
  ownStoredOn(nodes: ReadonlySet<string>): readonly ObjectState[] {
    return [...this.#known.values()].flatMap((known) => {
      const state = known.deref();
      if (!state || state.owner || state.content?.kind !== 'stored') return [];
      return nodes.has(state.content.location.nodeId ?? '') ? [state] : [];
    });
  }

  /** What this process holds, for `raylite memory`. */
  holdings(): wire.Holdings.$Properties {
    const known = [...this.#known.values()].flatMap((state) => state.deref() ?? []);
    const lent = (id: ObjectId): number => this.#pins.get(id)?.count ?? 0;
    return holdingsOf(new Set([...known, ...(this.#record?.states() ?? [])]), lent);
  }
}
