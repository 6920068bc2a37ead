// One stream to another process of the cluster, whoever opened it: calls out, calls in, resolves, borrows. When it breaks,
// what was in flight on it is told, what the peer borrowed is let go.
import { type ObjectId, OwnerDiedError } from '../common/index.js';
import { type CloseReason, type FrameStream, failureOf, type wire } from '../protocol/index.js';

/** What a call made on this link comes to. */
export interface PendingCall {
  answered(result: wire.Result): void;
  /** One item of a generator. */
  item(item: wire.Item): void;
  broken(reason: CloseReason): void;
}

/** What an owner is asked of an object. */
export interface Question {
  /** Where its content is not any more. */
  readonly lost?: wire.Location.$Properties | null;
  /** What whoever lent it is asked, instead of its content. */
  readonly wish?: string;
}

/** What a process does for its peers. */
export interface PeerHost {
  /** Runs a call; `answer` is called once. */
  call(call: wire.Call, from: PeerLink): void;
  cancel(cancel: wire.Cancel, from: PeerLink): void;
  /** The caller of a generator has taken items. */
  consumed(consumed: wire.Consumed, from: PeerLink): void;
  /** Tells `answer` what is asked of an own object: its content when it has some, or what a wish comes to. */
  resolve(
    objectId: ObjectId,
    question: Question,
    answer: (resolved: Omit<wire.Resolved.$Properties, 'id'>, bytes: number) => void,
  ): void;
  borrow(objectId: ObjectId, delta: number): void;
}

export class PeerLink {
  readonly stream: FrameStream;
  /** The peer's address; its worker id is empty until it greeted us. */
  peer: wire.WorkerAddress.$Properties;
  readonly #host: PeerHost;
  readonly #calls = new Map<number, PendingCall>();
  readonly #resolves = new Map<number, { id: ObjectId; done: (resolved: wire.Resolved.$Properties) => void }>();
  readonly #acks = new Map<number, () => void>();
  readonly #borrowed = new Map<ObjectId, number>(); // by the peer, of ours
  readonly #given = new Map<number, readonly object[]>(); // refs in results, until the peer has taken them
  readonly #givenItems = new Map<number, readonly object[]>(); // the same of items, by give id
  #lastCallId = 0; // of the peer
  #lastBorrowId = 0;
  #nextId = 1;
  #broken: CloseReason | null = null;

  constructor(stream: FrameStream, peer: wire.WorkerAddress.$Properties, host: PeerHost) {
    this.stream = stream;
    this.peer = peer;
    this.#host = host;
  }

  /** Takes frames from now on; `token` is what the peer's greeting must carry (null: the carrier has checked it). */
  start(token: string | null, onHello: () => void): void {
    const host = this.#host;
    this.stream.receive(
      token,
      (from) => {
        this.peer = from;
        onHello();
      },
      {
        call: (call) => {
          if (call.id <= this.#lastCallId) return; // a double must not run twice
          this.#lastCallId = call.id;
          host.call(call, this);
        },
        cancel: (cancel) => host.cancel(cancel, this),
        item: (item) => this.#calls.get(item.callId)?.item(item),
        consumed: (consumed) => host.consumed(consumed, this),
        takenItem: (giveId) => {
          this.#givenItems.delete(giveId);
        },
        result: (result) => {
          const call = this.#calls.get(result.callId);
          this.#calls.delete(result.callId);
          call?.answered(result);
        },
        resolve: ({ id, objectId, lost, wish }) =>
          host.resolve(objectId as ObjectId, { lost: lost ?? null, wish }, (resolved, bytes) =>
            this.stream.resolved({ ...resolved, id }, bytes),
          ),
        resolved: (resolved) => {
          const waiting = this.#resolves.get(resolved.id);
          this.#resolves.delete(resolved.id);
          waiting?.done(resolved);
        },
        borrow: ({ objectId, delta, ackId }) => {
          if (ackId <= this.#lastBorrowId) return; // a double must not count twice
          this.#lastBorrowId = ackId;
          const id = objectId as ObjectId;
          const count = (this.#borrowed.get(id) ?? 0) + delta;
          if (count > 0) this.#borrowed.set(id, count);
          else this.#borrowed.delete(id);
          host.borrow(id, delta);
          if (delta > 0) this.stream.borrowed(ackId);
        },
        borrowed: (ackId) => {
          this.#acks.get(ackId)?.();
          this.#acks.delete(ackId);
        },
        taken: (callId) => {
          this.#given.delete(callId);
        },
      },
    );
    this.stream.onClose((reason) => this.#ended(reason));
  }

  /** Sends a call; `pending` hears of its result, or that the stream broke before it came. Returns the call's id. */
  call(call: Omit<wire.Call.$Properties, 'id'>, bytes: number, pending: PendingCall): number {
    const id = this.#nextId++;
    const broken = this.#broken;
    if (broken) {
      queueMicrotask(() => pending.broken(broken));
      return id;
    }
    this.#calls.set(id, pending);
    (call as wire.Call.$Properties).id = id;
    this.stream.call(call, bytes);
    return id;
  }
  get callCount(): number {
    return this.#calls.size;
  }

  answer(
    callId: number,
    result: Omit<wire.Result.$Properties, 'callId'>,
    bytes: number,
    refs: readonly object[],
  ): void {
    if (this.stream.isClosed) return;
    if (refs.length > 0) this.#given.set(callId, refs);
    (result as wire.Result.$Properties).callId = callId;
    this.stream.result(result, bytes);
  }

  /** Sends an item of a generator; `refs` in it are kept until the peer has them. */
  give(item: wire.Item.$Properties, bytes: number, refs: readonly object[]): void {
    if (this.stream.isClosed) return;
    if (refs.length > 0) {
      item.giveId = this.#nextId++;
      this.#givenItems.set(item.giveId, refs);
    }
    this.stream.item(item, bytes);
  }

  /** Asks the peer, as owner, about an object; answers OwnerDiedError when it ends first. */
  resolve(
    id: ObjectId,
    { lost = null, wish = '' }: Question,
    done: (resolved: wire.Resolved.$Properties) => void,
  ): void {
    if (this.#broken) {
      queueMicrotask(() => done(ownerDied(id)));
      return;
    }
    const resolveId = this.#nextId++;
    this.#resolves.set(resolveId, { id, done });
    this.stream.resolve({ id: resolveId, objectId: id, ...(lost && { lost }), wish });
  }

  /** Tells the owner that we hold one of its objects; resolves when it knows (or is gone). */
  borrow(objectId: ObjectId): Promise<void> {
    return new Promise((resolve) => {
      if (this.stream.isClosed) {
        resolve();
        return;
      }
      const ackId = this.#nextId++;
      this.#acks.set(ackId, resolve);
      this.stream.borrow({ objectId, delta: 1, ackId });
    });
  }
  returnBorrow(objectId: ObjectId): void {
    if (!this.stream.isClosed) this.stream.borrow({ objectId, delta: -1, ackId: this.#nextId++ });
  }

  #ended(reason: CloseReason): void {
    this.#broken = reason;
    const calls = [...this.#calls.values()];
    const resolves = [...this.#resolves.values()];
    const acks = [...this.#acks.values()];
    this.#calls.clear();
    this.#resolves.clear();
    this.#acks.clear();
    this.#given.clear();
    this.#givenItems.clear();
    for (const call of calls) call.broken(reason);
    for (const { id, done } of resolves) done(ownerDied(id));
    for (const ack of acks) ack();
    for (const [id, count] of this.#borrowed) this.#host.borrow(id, -count);
    this.#borrowed.clear();
  }
}

const ownerDied = (objectId: ObjectId): wire.Resolved.$Properties => ({
  failure: failureOf(new OwnerDiedError({ objectId })),
});
