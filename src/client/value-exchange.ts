// Values that leave a process and come to it, with the refs and actor handles in them: whoever gets a ref tells its owner that
// it borrows the object, and whoever sends one keeps it until then.
import type { ObjectId } from '../common/index.js';
import { decodeValue, type EncodedValue, encodeValue, type ReferenceHost, type wire } from '../protocol/index.js';
import { ObjectRef } from './object-ref.js';
import { ObjectState } from './object-state.js';
import type { ObjectHolder, ObjectTable } from './object-table.js';
import type { Peers } from './peers.js';

/** Turns actor handles into what travels and back; given by actor-handle.ts. */
export interface HandleHost {
  exportHandle(handle: object): unknown;
  importHandle(handle: unknown): object;
}

/** What an exchange needs of its process; the door and handles are there once it is open. */
export interface ExchangeHost extends ObjectHolder {
  readonly peers: Peers;
  readonly handles: HandleHost;
}

/** The encoded form of a value, and the refs in it, which must be kept while it may be decoded. */
export interface Sendable {
  readonly encoded: EncodedValue;
  readonly refs: readonly ObjectRef<unknown>[];
  readonly bytes: number;
}

export class ValueExchange implements ReferenceHost {
  readonly #host: ExchangeHost;
  readonly #objects: ObjectTable;
  #exporting: ObjectRef<unknown>[] = [];
  #borrowing: Promise<void>[] = [];

  constructor(host: ExchangeHost, objects: ObjectTable) {
    this.#host = host;
    this.#objects = objects;
  }

  /** Takes a value apart, with the refs that must be kept until the receiver has them. `root` and `of` are for messages. */
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
  /** A value that came inside a message; `refs` are those in it, imported. */
  decode({ body, buffers }: wire.Value.$Properties, refs: readonly object[]): unknown {
    return decodeValue(body ?? NIL, buffers ?? [], refs, this, false);
  }

  exportRef(ref: object): wire.Ref.$Properties {
    const known = ref as ObjectRef<unknown>;
    this.#exporting.push(known);
    const state = ObjectRef.stateOf(known);
    state.face ??= new WeakRef(known);
    return this.wireRef(state);
  }
  wireRef(state: ObjectState): wire.Ref.$Properties {
    this.#objects.remember(state);
    return { objectId: state.id, owner: state.owner ?? this.#host.peers.address };
  }

  importRefs(refs: readonly wire.Ref.$Properties[]): readonly ObjectRef<unknown>[] {
    return refs.map((ref) => this.importRef(ref));
  }
  importRef(ref: wire.Ref.$Properties): ObjectRef<unknown> {
    const id = (ref.objectId ?? '') as ObjectId;
    const owner = ref.owner ?? {};
    const known = this.#objects.find(id);
    if (known) return this.#objects.faceOf(known);
    if (owner.workerId === this.#host.workerId) {
      const own = new ObjectState(this.#host.workerId, 0, { id, owner });
      own.settle({ kind: 'released' });
      return this.#objects.refTo(own);
    }
    const state = this.#objects.addBorrowed(id, owner);
    this.#borrowing.push(
      this.#host.peers.link(owner).then(
        (link) => link.borrow(id),
        () => {}, // the owner is gone: reading the ref says so
      ),
    );
    return this.#objects.faceOf(state);
  }

  /** Resolves once the owners of all refs imported since the last call know that we borrow them. */
  borrowed(): Promise<unknown> {
    const borrowing = this.#borrowing;
    this.#borrowing = [];
    return Promise.all(borrowing);
  }
  get isBorrowing(): boolean {
    return this.#borrowing.length > 0;
  }

  exportHandle(handle: object): unknown {
    return this.#host.handles.exportHandle(handle);
  }
  importHandle(handle: unknown): object {
    return this.#host.handles.importHandle(handle);
  }
}

/** MessagePack's nil: what a message without a body means. */
const NIL = new Uint8Array([0xc0]);
