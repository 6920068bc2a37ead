// One process's part in a cluster: the objects it owns and borrows, its links to peers, agent and head. Drivers and workers
// are the same here; a worker adds what runs calls.
import {
  ActorDiedError,
  type JobId,
  type NodeId,
  type ObjectId,
  ObjectLostError,
  OwnerDiedError,
  type RayliteError,
  sequenceOf,
  type WorkerId,
} from '../common/index.js';
import {
  asError,
  decodeValue,
  type EncodedValue,
  encodeValue,
  errorOf,
  failureOf,
  type ReferenceHost,
  type wire,
} from '../protocol/index.js';
import type { ActorClient } from './actor-client.js';
import type { AgentLink } from './agent-link.js';
import type { Awake } from './awake.js';
import type { CallContext } from './call-context.js';
import { type CallSite, siteOf, withSite } from './call-site.js';
import type { PackageFolder } from './code-ref.js';
import type { HeadLink } from './head-link.js';
import { holdingsOf, StateRecord } from './holdings.js';
import { Lineage } from './lineage.js';
import { ObjectRef, type RefKeeper } from './object-ref.js';
import { type Content, ObjectState } from './object-state.js';
import type { PeerHost, PeerLink } from './peer-link.js';
import type { Peers } from './peers.js';
import { readSpilled } from './spilled-object.js';
import type { ObjectStore } from './store.js';
import { layoutValue, parseStored, sizeOf } from './stored-value.js';
import type { TaskPool } from './task-pool.js';

/** Values up to here travel inside replies; larger ones through the arena. As in Ray. */
const INLINE_BYTES_MAX = 100 * 1024;

/** How many calls of one turn remember where they were made. */
const SITES_PER_TURN = 32;

/** What a worker adds: it runs calls. */
export interface CallRunner {
  call(call: wire.Call, from: PeerLink): void;
  cancel(cancel: wire.Cancel, from: PeerLink): void;
  consumed(consumed: wire.Consumed, from: PeerLink): void;
  /** The call that runs, where there is but one; null otherwise. */
  readonly current: CallContext | null;
  /** Code of this process began (+1) or ended (-1) to wait for an object: another call may run meanwhile. */
  blocked(delta: 1 | -1): void;
}

/** What is in a result, and in an item of a generator. */
type AnyResult = Pick<wire.Result.$Properties, 'inline' | 'location' | 'refs' | 'failure'>;

/** Turns actor handles into what travels and back; given by actor-handle.ts. */
export interface HandleHost {
  exportHandle(handle: object): unknown;
  importHandle(handle: unknown): object;
}

export interface RuntimeParts {
  readonly isDriver: boolean;
  readonly agent: AgentLink;
  readonly attached: wire.Attached;
  readonly store: ObjectStore;
  readonly token: string;
  readonly awake: Awake;
}

/** What the finalizer needs of an object whose last ref is gone. */
interface Leftover {
  readonly id: ObjectId;
  readonly owner: wire.WorkerAddress.$Properties | null;
  readonly location: wire.Location.$Properties | null;
}

/** The encoded form of a value, and the refs in it, which must be kept while it may be decoded. */
interface Sendable {
  readonly encoded: EncodedValue;
  readonly refs: readonly ObjectRef<unknown>[];
  readonly bytes: number;
}

export class Runtime implements ReferenceHost, PeerHost, RefKeeper {
  readonly isDriver: boolean;
  readonly agent: AgentLink;
  readonly attached: wire.Attached;
  readonly store: ObjectStore;
  readonly token: string;
  readonly awake: Awake;
  workerId: WorkerId;
  /** Whether the head knows that all of this worker waits. */
  isBlocked = false;
  /** The actor that runs in this process. */
  actor: { readonly actorId: string; readonly incarnation: number } | null = null;
  /** Of a placement group, that this worker runs in. */
  bundle: wire.BundleWish.$Properties | null = null;
  jobId = '' as JobId;
  namespace = '';
  runtimeEnv: wire.RuntimeEnv.$Properties = {};
  peers!: Peers; // set once, by whoever opens the door (it needs this object to answer)
  head!: HeadLink;
  handles!: HandleHost;
  runner: CallRunner | null = null;
  readonly lineage = new Lineage(this);
  /** Of an actor: ends the calls that it has, then runs its exit hooks. */
  endGracefully: (() => Promise<void>) | null = null;
  /** Of a worker: what it still has to tell its agent. */
  tellActivity: (() => void) | null = null;
  readonly actors = new Map<string, ActorClient>();
  readonly taskPools = new Map<string, TaskPool>();
  /** The folder that this driver uploaded. */
  workingDir: PackageFolder | null = null;
  readonly #known = new Map<ObjectId, WeakRef<ObjectState>>(); // exported, stored and borrowed ones
  readonly #pins = new Map<ObjectId, { readonly state: ObjectState; count: number }>(); // borrowed by peers
  /** All own objects, where call sites are recorded. */
  readonly #record = process.env.RAYLITE_RECORD_CALL_SITES === '1' ? new StateRecord() : null;
  readonly #lent = new Map<ObjectId, () => void>(); // what hears of the ends of lent objects
  readonly #leftovers = new FinalizationRegistry<Leftover>((leftover) => this.#free(leftover));
  #nextSequence = 1;
  #waits = 0;
  #sitesLeft = SITES_PER_TURN;
  #exporting: ObjectRef<unknown>[] = [];
  #borrowing: Promise<void>[] = [];
  #unborrowed: (() => void) | null = null;

  constructor(parts: RuntimeParts, workerId: WorkerId) {
    this.isDriver = parts.isDriver;
    this.agent = parts.agent;
    this.attached = parts.attached;
    this.store = parts.store;
    this.token = parts.token;
    this.awake = parts.awake;
    this.workerId = workerId;
  }

  get nodeId(): NodeId {
    return this.store.nodeId;
  }
  /** Whether this is the only part of a cluster in its process; not so in local mode. */
  get isAlone(): boolean {
    return this.attached.arenaPath !== '';
  }
  /** Values up to here travel inside messages; without an arena (local mode) all do. */
  get inlineBytesMax(): number {
    return this.isAlone ? INLINE_BYTES_MAX : Number.POSITIVE_INFINITY;
  }

  /** Number of a new `wait` for several objects. */
  nextWait(): number {
    this.#waits += 1;
    return this.#waits;
  }

  // ---- objects ----

  /** A new object of this process, pending; with `count` the first of so many in a row. */
  newObject(count = 1): { readonly sequence: number; readonly state: ObjectState } {
    const sequence = this.#nextSequence;
    this.#nextSequence += count;
    return { sequence, state: new ObjectState(this.workerId, sequence, null) };
  }

  /**
   * Where a call was made, for the stack of its error. Taking a stack costs as much as the rest of a call: of many calls
   * made in one turn of the event loop only the first keep their place, unless RAYLITE_RECORD_CALL_SITES asks for all.
   */
  callSite(calledFrom: (...args: never[]) => unknown): CallSite | null {
    if (this.#record) return siteOf(calledFrom);
    if (this.#sitesLeft === 0) return null;
    if (this.#sitesLeft === SITES_PER_TURN) {
      setImmediate(() => {
        this.#sitesLeft = SITES_PER_TURN;
      });
    }
    this.#sitesLeft -= 1;
    return siteOf(calledFrom);
  }

  refTo<T>(state: ObjectState): ObjectRef<T> {
    const ref = new ObjectRef<T>(state, this);
    if (this.#record) {
      state.face = new WeakRef(ref);
      this.#record.note(state);
    }
    return ref;
  }

  put<T>(value: T, calledFrom: (...args: never[]) => unknown): ObjectRef<T> {
    const { state } = this.newObject();
    if (this.#record) state.site = siteOf(calledFrom);
    const bytes = this.#settleOwn(state, value, 'put');
    const ref = this.refTo<T>(state);
    if (bytes > INLINE_BYTES_MAX) state.face ??= new WeakRef(ref);
    return ref;
  }

  /**
   * An own object whose value is made when somebody first asks for it; `onFreed` runs when nobody holds it any more. Once another
   * process borrows it, the ref that is returned here holds nothing: who is handed an object is who keeps it.
   */
  lend<T>(make: () => Promise<T>, onFreed: () => void): ObjectRef<T> {
    const { state } = this.newObject();
    const failed = (error: unknown): void => {
      const local = asError(error);
      state.settle({ kind: 'failed', failure: failureOf(local), local });
    };
    state.source = () => {
      make()
        .then((value) => this.#settleOwn(state, value, 'lend'))
        .catch(failed);
    };
    this.#remember(state);
    this.#leftovers.register(state, { id: state.id, owner: null, location: null }, state);
    this.#lent.set(state.id, onFreed);
    return this.refTo<T>(state);
  }

  /** Gives an own object its value; returns how many bytes that has. */
  #settleOwn(state: ObjectState, value: unknown, of: string): number {
    const sendable = this.encode(value, 'value', of);
    if (sendable.refs.length > 0) state.nested = sendable.refs;
    if (sendable.bytes <= this.inlineBytesMax) state.settle({ kind: 'inline', value: copied(sendable.encoded) });
    else {
      const layout = layoutValue(sendable.encoded);
      const location = this.store.tryWrite(state.id, this.workerId, layout);
      if (location) this.settleStored(state, location);
      else {
        // No slab has room: the caller may change the value before another comes, so that it is copied now.
        const kept = { ...layout, parts: layout.parts.map(({ at, bytes }) => ({ at, bytes: new Uint8Array(bytes) })) };
        this.store.write(state.id, this.workerId, kept).then(
          (where) => this.settleStored(state, where),
          (error: RayliteError) => state.settle({ kind: 'failed', failure: failureOf(error), local: error }),
        );
      }
    }
    return sendable.bytes;
  }

  /** An object that was lost is pending again. */
  unsettle(state: ObjectState): void {
    if (!state.owner) this.#leftovers.unregister(state);
    state.unsettle();
  }
  /** The state of an own or borrowed object, as long as somebody here holds it. */
  find(id: ObjectId): ObjectState | null {
    return this.#known.get(id)?.deref() ?? null;
  }
  /** An own object that everybody let go of, pending again. */
  revive(id: ObjectId): ObjectState {
    const state = new ObjectState(this.workerId, sequenceOf(id), { id, owner: null });
    this.#known.set(id, new WeakRef(state));
    return state;
  }

  settleStored(state: ObjectState, location: wire.Location.$Properties): void {
    this.#remember(state);
    if (!state.owner) this.#leftovers.register(state, { id: state.id, owner: null, location }, state);
    state.settle({ kind: 'stored', location });
  }

  /** The content of a call's result; `taken` is called once the refs nested in it are held here. */
  settleResult(state: ObjectState, result: AnyResult, taken: () => void): void {
    const refs = result.inline?.refs?.length ? result.inline.refs : (result.refs ?? []);
    if (refs.length > 0) {
      state.nested = this.importRefs(refs);
      const { borrowed } = this;
      borrowed().then(taken, taken);
    }
    if (result.location) this.settleStored(state, result.location);
    else if (result.failure) state.settle({ kind: 'failed', failure: result.failure, local: null });
    else state.settle({ kind: 'inline', value: result.inline ?? {} });
  }

  /** The value of an object, for code that runs in this process and waits for it. Rejects with its failure. */
  read(state: ObjectState): Promise<unknown> {
    return state.isAtHand ? this.fetch(state) : this.waiting(this.fetch(state));
  }

  /**
   * What code of this process waits for: a driver does not end before; a worker may run, and its CPUs may be, others'
   * meanwhile.
   */
  waiting<T>(value: Promise<T>): Promise<T> {
    this.beginWait();
    return value.then(
      (got) => {
        this.endWait();
        return got;
      },
      (error: unknown) => {
        this.endWait();
        throw error;
      },
    );
  }
  beginWait(): void {
    if (this.runner) this.runner.blocked(1);
    else this.awake.begin();
  }
  endWait(): void {
    if (this.runner) this.runner.blocked(-1);
    else this.awake.end();
  }

  /** The value of an object, when it has one. Rejects with its failure. */
  fetch(state: ObjectState): Promise<unknown> {
    const { content } = state;
    if (content && content.kind !== 'stored') {
      try {
        return Promise.resolve(this.#open(state, content));
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return new Promise((resolve, reject) => {
      this.whenSettled(state, (settled) => {
        try {
          if (settled.kind === 'stored') this.#openStored(state, settled.location).then(resolve, reject);
          else resolve(this.#open(state, settled));
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  /** As `state.whenSettled`, and asks the owner of a borrowed object about it. */
  whenSettled(state: ObjectState, listener: (content: Content) => void): void {
    const isAsked = state.content !== null || !state.owner || state.isAsked;
    state.whenSettled(listener);
    if (!isAsked) this.ask(state, null);
  }
  /** Asks the owner of a borrowed object about it; where it is not any more is `lost`. */
  ask(state: ObjectState, lost: wire.Location.$Properties | null): void {
    if (!state.owner) return;
    state.isAsked = true;
    const ownerGone = (): void => {
      const error = new OwnerDiedError({ objectId: state.id });
      state.settle({ kind: 'failed', failure: failureOf(error), local: error });
    };
    this.peers.link(state.owner).then((link) => {
      link.resolve(state.id, lost, (resolved) => {
        if (resolved.location) state.settle({ kind: 'stored', location: resolved.location });
        else if (resolved.failure) state.settle({ kind: 'failed', failure: resolved.failure, local: null });
        else {
          const value = resolved.inline ?? {};
          if (value.refs?.length) state.nested = this.importRefs(value.refs);
          state.settle({ kind: 'inline', value });
        }
      });
    }, ownerGone);
  }

  /** Others wait for workers: those that do nothing for this process are given back. */
  giveWay(): void {
    for (const pool of this.taskPools.values()) pool.giveWay();
  }

  letGo(state: ObjectState): void {
    if (state.content?.kind === 'released') return;
    const location = state.content?.kind === 'stored' ? state.content.location : null;
    const isKnown = this.#leftovers.unregister(state);
    const pin = this.#pins.get(state.id);
    // While others borrow it, only this process's hold ends: the pin's state keeps the content.
    if (pin && !state.owner) {
      this.#leftovers.register(state, { id: state.id, owner: null, location }, state);
      state.isLetGo = true;
      return;
    }
    state.release();
    this.#known.delete(state.id);
    if (isKnown) this.#free({ id: state.id, owner: state.owner, location });
  }

  #open(state: ObjectState, content: Exclude<Content, { kind: 'stored' }>): unknown {
    switch (content.kind) {
      case 'inline': {
        const { value } = content;
        return decodeValue(value.body ?? NIL, value.buffers ?? [], state.nested ?? [], this, false);
      }
      case 'failed':
        throw content.local ?? withSite(errorOf(content.failure), state.site);
      case 'released':
        throw new ObjectLostError({ objectId: state.id, detail: 'its ref was released' });
    }
  }

  async #openStored(state: ObjectState, location: wire.Location.$Properties, attempt = 0): Promise<unknown> {
    let memory = state.mapped?.deref() ?? null;
    if (!memory) {
      try {
        memory = await this.#bytesOf(state, location);
      } catch (error) {
        await this.lineage.recover(state, location, error, attempt);
        return state.content?.kind === 'stored' && state.content.location === location
          ? this.#openStored(state, location, attempt + 1)
          : this.fetch(state);
      }
      // The view keeps the state, and with it the object, until nobody holds the view.
      keep(memory, state);
      state.mapped = new WeakRef(memory);
    }
    const stored = parseStored(memory);
    if (stored.refs.length > 0) state.nested ??= this.importRefs(stored.refs);
    return decodeValue(stored.body, stored.buffers, state.nested ?? [], this, true);
  }

  /** The bytes of a stored object: where they lie on this node, brought here, or read from its disk when there is no room. */
  async #bytesOf(state: ObjectState, location: wire.Location.$Properties): Promise<ArrayBuffer> {
    const here = location.nodeId === this.nodeId ? this.store.tryMap(location) : null;
    if (here) return here;
    const { location: there, file, crc } = await this.agent.pull(state.id, location);
    if (!file) return this.store.map(there ?? {}, () => this.agent.releasePull(state.id));
    return readSpilled(state.id, { file, crc, offset: there?.offset ?? 0, size: there?.size ?? 0 });
  }

  #remember(state: ObjectState): void {
    const known = this.#known.get(state.id)?.deref();
    if (!known) this.#known.set(state.id, new WeakRef(state));
  }

  /** The last ref of this process is gone. */
  #free({ id, owner, location }: Leftover): void {
    if (this.find(id)) return; // made again meanwhile
    this.#known.delete(id);
    if (owner) {
      this.peers.linked(owner.workerId ?? '')?.returnBorrow(id);
      return;
    }
    const onFreed = this.#lent.get(id);
    this.#lent.delete(id);
    onFreed?.();
    if (location) {
      if (location.nodeId === this.nodeId) this.store.reclaim(id);
      this.agent.freed(id, location);
    }
  }

  // ---- values that leave and come ----

  /** Takes a value apart, with the refs that must be kept until the receiver has them. */
  encode(value: unknown, root: string, of: string): Sendable {
    this.#exporting = [];
    try {
      const encoded = encodeValue(value, this, root, of);
      let bytes = encoded.body.byteLength;
      for (const buffer of encoded.buffers) bytes += buffer.byteLength;
      return { encoded, refs: this.#exporting, bytes };
    } finally {
      this.#exporting = [];
    }
  }

  exportRef(ref: object): wire.Ref.$Properties {
    const known = ref as ObjectRef<unknown>;
    this.#exporting.push(known);
    const state = ObjectRef.stateOf(known);
    state.face ??= new WeakRef(known);
    return this.wireRef(state);
  }
  wireRef(state: ObjectState): wire.Ref.$Properties {
    this.#remember(state);
    return { objectId: state.id, owner: state.owner ?? this.peers.address };
  }

  importRefs(refs: readonly wire.Ref.$Properties[]): readonly ObjectRef<unknown>[] {
    return refs.map((ref) => this.importRef(ref));
  }
  importRef(ref: wire.Ref.$Properties): ObjectRef<unknown> {
    const id = (ref.objectId ?? '') as ObjectId;
    const owner = ref.owner ?? {};
    const known = this.#known.get(id)?.deref();
    if (known) return this.#faceOf(known);
    const state = new ObjectState(owner.workerId as WorkerId, 0, { id, owner });
    if (owner.workerId === this.workerId) {
      state.settle({ kind: 'released' });
      return this.refTo(state);
    }
    this.#known.set(id, new WeakRef(state));
    this.#leftovers.register(state, { id, owner, location: null }, state);
    this.#borrowing.push(
      this.peers.link(owner).then(
        (link) => link.borrow(id),
        () => {}, // the owner is gone: reading the ref says so
      ),
    );
    return this.#faceOf(state);
  }
  #faceOf(state: ObjectState): ObjectRef<unknown> {
    const known = state.face?.deref();
    if (known) return known;
    const face = this.refTo<unknown>(state);
    state.face = new WeakRef(face);
    return face;
  }

  /** Resolves once the owners of all refs imported since the last call know that we borrow them. */
  readonly borrowed = (): Promise<unknown> => {
    const borrowing = this.#borrowing;
    this.#borrowing = [];
    return Promise.all(borrowing);
  };
  get isBorrowing(): boolean {
    return this.#borrowing.length > 0;
  }

  exportHandle(handle: object): unknown {
    return this.handles.exportHandle(handle);
  }
  importHandle(handle: unknown): object {
    return this.handles.importHandle(handle);
  }

  // ---- peers ----

  call(call: wire.Call, from: PeerLink): void {
    if (this.runner) this.runner.call(call, from);
    else {
      const error = new ActorDiedError({ actorId: '' as never, className: 'driver', detail: 'a driver runs no calls' });
      from.answer(call.id, { failure: failureOf(error) }, 0, []);
    }
  }
  cancel(cancel: wire.Cancel, from: PeerLink): void {
    this.runner?.cancel(cancel, from);
  }
  consumed(consumed: wire.Consumed, from: PeerLink): void {
    this.runner?.consumed(consumed, from);
  }

  resolve(
    id: ObjectId,
    lost: wire.Location.$Properties | null,
    answer: (resolved: Omit<wire.Resolved.$Properties, 'id'>, bytes: number) => void,
  ): void {
    const state = this.find(id);
    const freed = (): void => {
      const error = new ObjectLostError({ objectId: id, detail: 'its owner has let go of it' });
      answer({ failure: failureOf(error) }, 0);
    };
    if (!state) {
      freed();
      return;
    }
    if (lost) this.lineage.lostAt(state, lost);
    state.whenSettled((content) => {
      if (content.kind === 'inline') answer({ inline: content.value }, sizeOf(content.value));
      else if (content.kind === 'stored') answer({ location: content.location }, 0);
      else if (content.kind === 'failed') answer({ failure: content.failure }, 0);
      else freed();
    });
  }

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
    const state = delta > 0 ? this.#known.get(id)?.deref() : undefined;
    if (!state) return;
    this.#pins.set(id, { state, count: delta });
    if (this.#lent.has(id)) state.face = null;
  }

  /** What this process holds, for `raylite memory`. */
  holdings(): wire.Holdings.$Properties {
    const known = [...this.#known.values()].flatMap((state) => state.deref() ?? []);
    const lent = (id: ObjectId): number => this.#pins.get(id)?.count ?? 0;
    return holdingsOf(new Set([...known, ...(this.#record?.states() ?? [])]), lent);
  }

  /** Whether another process holds refs of this one's objects. */
  get isBorrowed(): boolean {
    return this.#pins.size > 0;
  }
  /** Calls `listener` when no other process holds refs of this one's objects any more. */
  whenUnborrowed(listener: () => void): void {
    this.#unborrowed = listener;
  }

  /** Ends this process's part: calls that have no result yet fail, peers see orderly closes, the agent frees what we owned. */
  async close(): Promise<void> {
    this.awake.begin();
    const left = this.head.left();
    for (const actor of this.actors.values()) actor.close(left);
    for (const pool of this.taskPools.values()) pool.close(left);
    await this.peers[Symbol.asyncDispose]();
    for (const onFreed of this.#lent.values()) onFreed();
    this.#lent.clear();
    this.head.close();
    this.agent.exiting('done');
    this.agent.close('done');
    this.awake.end();
  }
}

const NIL = new Uint8Array([0xc0]);

/** A value whose bytes are its own: what is put may be changed by its maker afterwards. */
export const copied = ({ body, buffers, refs }: EncodedValue): wire.Value.$Properties => ({
  body,
  buffers: buffers.map((buffer) => new Uint8Array(buffer)),
  refs: refs as wire.Ref.$Properties[],
});

const keepers = new WeakMap<ArrayBuffer, ObjectState>();
/** Keeps `state` as long as `memory` is reachable. */
const keep = (memory: ArrayBuffer, state: ObjectState): void => {
  keepers.set(memory, state);
};
