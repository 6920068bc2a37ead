// What this process knows of one object: whose it is, and whether it is pending, inline, stored, failed or released.
//
//   pending ─settle→ inline | stored | failed    stored ─unsettle→ pending    any ─release→ released
import { type ObjectId, objectIdOf, type WorkerId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import type { CallSite } from './call-site.js';
import type { Maker } from './lineage.js';
import type { ObjectRef } from './object-ref.js';

export type Content =
  | { readonly kind: 'inline'; readonly value: wire.Value.$Properties }
  | { readonly kind: 'stored'; readonly location: wire.Location.$Properties }
  | { readonly kind: 'failed'; readonly failure: wire.Failure.$Properties; readonly local: Error | null }
  | { readonly kind: 'released' };

/** Answers what a borrower of a lent object wishes. */
export type Grant = (wish: string) => Promise<string>;

/** A call on its way. */
export interface Cancellable {
  cancel(options: CancelOptions): void;
}

/** How far `cancel` goes. */
export interface CancelOptions {
  /** A task that still runs after this many milliseconds is ended with its process. Default: it is left to finish. */
  readonly forceAfterMs?: number;
  /** Whether the calls that it made are cancelled too. Default true. */
  readonly recursive?: boolean;
}

export class ObjectState {
  /** The process that owns the object; null when it is this one. */
  readonly owner: wire.WorkerAddress.$Properties | null;
  /** Null while pending. */
  content: Content | null = null;
  /** Refs nested in the value, kept as long as the object is. */
  nested: readonly object[] | null = null;
  /** The mapped bytes, while somebody still holds a view of them. */
  mapped: WeakRef<ArrayBuffer> | null = null;
  /** Who made the call, for the stack of its error. */
  site: CallSite | null = null;
  /** Whether the owner of this borrowed object was asked for it. */
  isAsked = false;
  /** How a stored one was made; null when it was put. */
  maker: Maker | null = null;
  /** The ref to it that code may hold, where it was noted. */
  face: WeakRef<ObjectRef<unknown>> | null = null;
  /** Calls on their way that it is an argument of. */
  argumentCount = 0;
  /** Code of this process has released it; others may still borrow it. */
  isLetGo = false;
  /** The last `wait` that was given it. */
  waitNumber = 0;
  /** The call that makes it, until it is answered. */
  invocation: Cancellable | null = null;
  /** Makes the value of a lent object, for the first who asks. */
  source: (() => void) | null = null;
  /** Of a lent object: answers what its borrowers wish of whoever lent it. */
  grant: Grant | null = null;
  #waiters: ((content: Content) => void)[] | null = null;
  readonly #ownerId: WorkerId;
  readonly #sequence: number;
  #id: ObjectId | null;

  /** An own object by its sequence, or one by its id, with its owner where that is another process. */
  constructor(
    ownerId: WorkerId,
    sequence: number,
    known: { id: ObjectId; owner: wire.WorkerAddress.$Properties | null } | null,
  ) {
    this.#ownerId = ownerId;
    this.#sequence = sequence;
    this.#id = known?.id ?? null;
    this.owner = known?.owner ?? null;
  }

  get id(): ObjectId {
    this.#id ??= objectIdOf(this.#ownerId, this.#sequence);
    return this.#id;
  }

  /** Whether reading it waits for nobody. */
  get isAtHand(): boolean {
    return this.content !== null && this.content.kind !== 'stored';
  }

  settle(content: Content): void {
    if (this.content) return;
    this.content = content;
    this.invocation = null;
    const waiters = this.#waiters;
    this.#waiters = null;
    if (waiters) for (const waiter of waiters) waiter(content);
  }

  /** It was lost: pending again. */
  unsettle(): void {
    this.content = null;
    this.isAsked = false;
    this.mapped = null;
  }

  /** Calls `listener` once the object is no longer pending; at once if it is not. */
  whenSettled(listener: (content: Content) => void): void {
    if (this.content) listener(this.content);
    else if (this.#waiters) this.#waiters.push(listener);
    else this.#waiters = [listener];
    const { source } = this;
    this.source = null;
    source?.();
  }

  /** Takes back a listener, e.g. of a `wait` that timed out. */
  forgetListener(listener: (content: Content) => void): void {
    const at = this.#waiters?.indexOf(listener) ?? -1;
    if (at >= 0) this.#waiters?.splice(at, 1);
  }

  release(): void {
    this.content = { kind: 'released' };
    this.nested = null;
    this.mapped = null;
    this.source = null;
  }
}
