// What gives own objects their content: `put`, and the answers of calls.
import type { RayliteError } from '../common/index.js';
import { asError, type EncodedValue, failureOf, type wire } from '../protocol/index.js';
import type { CallSites } from './call-site.js';
import type { ObjectRef } from './object-ref.js';
import type { Grant, ObjectState } from './object-state.js';
import type { ObjectHolder, ObjectTable } from './object-table.js';
import type { ObjectStore } from './store.js';
import { layoutValue } from './stored-value.js';
import type { ValueExchange } from './value-exchange.js';

/** Values up to here travel inside replies; larger ones through the arena. As in Ray. */
export const INLINE_BYTES_MAX = 100 * 1024;

/** What a writer needs of its process. */
export interface WriterHost extends ObjectHolder {
  readonly store: ObjectStore;
  readonly sites: CallSites;
  readonly inlineBytesMax: number;
}

/** What is in a result, and in an item of a generator. */
type AnyResult = Pick<wire.Result.$Properties, 'inline' | 'location' | 'refs' | 'failure'>;

export class ObjectWriter {
  readonly #host: WriterHost;
  readonly #objects: ObjectTable;
  readonly #values: ValueExchange;

  constructor(host: WriterHost, objects: ObjectTable, values: ValueExchange) {
    this.#host = host;
    this.#objects = objects;
    this.#values = values;
  }

  put<T>(value: T, calledFrom: (...args: never[]) => unknown): ObjectRef<T> {
    const { state } = this.#objects.create();
    state.site = this.#host.sites.recorded(calledFrom);
    const bytes = this.#settleOwn(state, value, 'put');
    const ref = this.#objects.refTo<T>(state);
    if (bytes > INLINE_BYTES_MAX) state.face ??= new WeakRef(ref);
    return ref;
  }

  /**
   * An own object whose value is made when somebody first asks for it; `onFreed` runs when nobody holds it any more. Once another
   * process borrows it, the ref that is returned here holds nothing: who is handed an object is who keeps it. `grant` answers what
   * borrowers wish beside.
   */
  lend<T>(make: () => Promise<T>, onFreed: () => void, grant: Grant): ObjectRef<T> {
    const { state } = this.#objects.create();
    state.grant = grant;
    const failed = (error: unknown): void => {
      const local = asError(error);
      state.settle({ kind: 'failed', failure: failureOf(local), local });
    };
    state.source = () => {
      make()
        .then((value) => this.#settleOwn(state, value, 'lend'))
        .catch(failed);
    };
    this.#objects.addLent(state, onFreed);
    return this.#objects.refTo<T>(state);
  }

  /** Gives an own object its value; returns how many bytes that has. */
  #settleOwn(state: ObjectState, value: unknown, of: string): number {
    const sendable = this.#values.encode(value, 'value', of);
    if (sendable.refs.length > 0) state.nested = sendable.refs;
    if (sendable.bytes <= this.#host.inlineBytesMax) state.settle({ kind: 'inline', value: copied(sendable.encoded) });
    else this.#store(state, sendable.encoded);
    return sendable.bytes;
  }

  #store(state: ObjectState, encoded: EncodedValue): void {
    const { store, workerId } = this.#host;
    const layout = layoutValue(encoded);
    const there = store.write(state.id, workerId, layout);
    if (!(there instanceof Promise)) {
      this.#objects.settleStored(state, there);
      return;
    }
    there.then(
      (where) => this.#objects.settleStored(state, where),
      (error: RayliteError) => state.settle({ kind: 'failed', failure: failureOf(error), local: error }),
    );
  }

  /** The content of a call's result; `taken` is called once the refs nested in it are held here. */
  settleResult(state: ObjectState, result: AnyResult, taken: () => void): void {
    const refs = result.inline?.refs?.length ? result.inline.refs : (result.refs ?? []);
    if (refs.length > 0) {
      state.nested = this.#values.importRefs(refs);
      this.#values.borrowed().then(taken, taken);
    }
    if (result.location) this.#objects.settleStored(state, result.location);
    else if (result.failure) state.settle({ kind: 'failed', failure: result.failure, local: null });
    else state.settle({ kind: 'inline', value: result.inline ?? {} });
  }
}

/** A value whose bytes are its own: what is put may be changed by its maker afterwards. */
export const copied = ({ body, buffers, refs }: EncodedValue): wire.Value.$Properties => ({
  body,
  buffers: buffers.map((buffer) => new Uint8Array(buffer)),
  refs: refs as wire.Ref.$Properties[],
});
