// The values of objects: waits until they have one (asking the owners of borrowed ones), finds its bytes, wherever they lie.
import { type NodeId, ObjectLostError, OwnerDiedError } from '../common/index.js';
import { decodeValue, errorOf, failureOf, type wire } from '../protocol/index.js';
import type { AgentLink } from './agent-link.js';
import { withSite } from './call-site.js';
import type { Lineage } from './lineage.js';
import { ObjectRef } from './object-ref.js';
import type { Content, ObjectState } from './object-state.js';
import type { Peers } from './peers.js';
import { mapSpilled } from './spilled-object.js';
import type { ObjectStore } from './store.js';
import { parseStored } from './stored-value.js';
import type { ValueExchange } from './value-exchange.js';

/** What a reader needs of its process; the door is there once it is open. */
export interface ReaderHost {
  readonly nodeId: NodeId;
  readonly agent: AgentLink;
  readonly store: ObjectStore;
  readonly peers: Peers;
  /** What is lost is made again by. */
  readonly lineage: Lineage;
}

export class ObjectReader {
  readonly #host: ReaderHost;
  readonly #values: ValueExchange;

  constructor(host: ReaderHost, values: ValueExchange) {
    this.#host = host;
    this.#values = values;
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

  /** The value of a call's argument; a promise of it (and only then) where it came as a ref. */
  argument({ ref, inline }: wire.Argument.$Properties): unknown {
    if (ref) return this.fetch(ObjectRef.stateOf(this.#values.importRef(ref)));
    const value = inline ?? {};
    return this.#values.decode(value, value.refs?.length ? this.#values.importRefs(value.refs) : NO_REFS);
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
    this.#host.peers.link(state.owner).then((link) => {
      link.resolve(state.id, { lost }, (resolved) => {
        if (resolved.location) state.settle({ kind: 'stored', location: resolved.location });
        else if (resolved.failure) state.settle({ kind: 'failed', failure: resolved.failure, local: null });
        else {
          const value = resolved.inline ?? {};
          if (value.refs?.length) state.nested = this.#values.importRefs(value.refs);
          state.settle({ kind: 'inline', value });
        }
      });
    }, ownerGone);
  }

  /** Asks whoever lent an object for something beside its value. Rejects with what failed there, or OwnerDiedError. */
  async wish(state: ObjectState, wish: string): Promise<string> {
    const ownerGone = () => new OwnerDiedError({ objectId: state.id });
    if (!state.owner) return state.grant ? state.grant(wish) : Promise.reject(ownerGone());
    const link = await this.#host.peers.link(state.owner).catch(() => Promise.reject(ownerGone()));
    return new Promise((resolve, reject) => {
      const done = ({ failure, answer }: wire.Resolved.$Properties): void => {
        if (failure) reject(errorOf(failure));
        else resolve(answer ?? '');
      };
      link.resolve(state.id, { wish }, done);
    });
  }

  #open(state: ObjectState, content: Exclude<Content, { kind: 'stored' }>): unknown {
    switch (content.kind) {
      case 'inline':
        return this.#values.decode(content.value, state.nested ?? NO_REFS);
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
        memory = await this.bytesOf(state, location);
      } catch (error) {
        await this.#host.lineage.recover(state, location, error, attempt);
        return state.content?.kind === 'stored' && state.content.location === location
          ? this.#openStored(state, location, attempt + 1)
          : this.fetch(state);
      }
      // The view keeps the state, and with it the object, until nobody holds the view.
      keepers.set(memory, state);
      state.mapped = new WeakRef(memory);
    }
    const stored = parseStored(memory);
    if (stored.refs.length > 0) state.nested ??= this.#values.importRefs(stored.refs);
    return decodeValue(stored.body, stored.buffers, state.nested ?? NO_REFS, this.#values, true);
  }

  /** The bytes of a stored object: where they lie on this node, in its arena or on its disk, or brought here. */
  async bytesOf(state: ObjectState, location: wire.Location.$Properties): Promise<ArrayBuffer> {
    const { agent, store, nodeId } = this.#host;
    const here = location.nodeId === nodeId ? store.tryMap(location) : null;
    if (here) return here;
    const { location: there, file, crc } = await agent.pull(state.id, location);
    if (!file) return store.map(there ?? {}, () => agent.releasePull(state.id));
    const part = { path: file, at: there?.offset ?? 0, bytes: there?.size ?? 0, crc: crc ?? 0 };
    return mapSpilled(state.id, part, () => agent.releasePull(state.id, file));
  }
}

const NO_REFS: readonly never[] = [];

/** Whose bytes they are, as long as somebody can reach them. */
const keepers = new WeakMap<ArrayBuffer, ObjectState>();
