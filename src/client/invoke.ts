// What all calls share: their arguments taken apart, the object of their result, settling it.
import { type CloseReason, failureOf, type wire } from '../protocol/index.js';
import { ObjectRef } from './object-ref.js';
import type { ObjectState } from './object-state.js';
import type { PeerLink, PendingCall } from './peer-link.js';
import { INLINE_BYTES_MAX, type Runtime } from './runtime.js';
import type { TaskPool } from './task-pool.js';

/** Who has a call at the moment: an actor's client, a pool of tasks, a lease. */
export interface Carrier {
  answered(invocation: Invocation): void;
  broken(invocation: Invocation, reason: CloseReason): void;
  cancel(invocation: Invocation): void;
}

/** One call on its way: kept until it is answered, sent again when it may be. One object a call: there are many. */
export class Invocation implements PendingCall {
  readonly name: string; // "Counter.add", for messages
  readonly message: Omit<wire.Call.$Properties, 'id'>;
  readonly bytes: number;
  readonly state: ObjectState;
  /** Refs in the arguments: kept until the answer. */
  readonly keeps: readonly unknown[];
  readonly #runtime: Runtime;
  /** Of a task: what runs it again. */
  readonly pool: TaskPool | null;
  readonly retries: number;
  carrier: Carrier;
  retriesLeft: number;
  isCancelled = false;
  #link: PeerLink | null = null;
  #callId = 0;

  constructor(
    runtime: Runtime,
    carrier: Carrier,
    name: string,
    message: Omit<wire.Call.$Properties, 'id'>,
    encoded: { readonly bytes: number; readonly keeps: readonly unknown[] },
    state: ObjectState,
    retries: number,
    pool: TaskPool | null,
  ) {
    this.#runtime = runtime;
    this.pool = pool;
    this.retries = retries;
    this.carrier = carrier;
    this.name = name;
    this.message = message;
    this.bytes = encoded.bytes;
    this.keeps = encoded.keeps;
    this.state = state;
    this.retriesLeft = retries;
    state.invocation = this;
  }

  sendOn(link: PeerLink, carrier: Carrier): void {
    this.carrier = carrier;
    this.#link = link;
    this.#callId = link.call(this.message, this.bytes, this);
  }

  answered(result: wire.Result): void {
    const link = this.#link;
    this.#link = null;
    if (result.location) this.#runtime.lineage.keep(this);
    this.#runtime.settleResult(this.state, result, () => link?.stream.taken(result.callId));
    this.carrier.answered(this);
  }
  broken(reason: CloseReason): void {
    this.#link = null;
    this.carrier.broken(this, reason);
  }
  fail(error: Error): void {
    this.state.settle({ kind: 'failed', failure: failureOf(error), local: null });
  }

  cancel(): void {
    this.isCancelled = true;
    if (this.#link) this.#link.stream.cancel({ callId: this.#callId });
    else this.carrier.cancel(this);
  }
}

const NO_ARGS: readonly never[] = [];

/** Takes the arguments of a call apart. Refs stay refs; a large value becomes an object of its own. */
export function encodeArguments(
  runtime: Runtime,
  args: readonly unknown[],
  name: string,
): { readonly args: readonly wire.Argument.$Properties[]; readonly keeps: readonly unknown[]; readonly bytes: number } {
  if (args.length === 0) return { args: NO_ARGS, keeps: NO_ARGS, bytes: 0 };
  const keeps: unknown[] = [];
  let bytes = 0;
  const encoded = args.map((arg, index): wire.Argument.$Properties => {
    if (ObjectRef.isRef(arg)) {
      const state = ObjectRef.stateOf(arg);
      if (state.content?.kind === 'inline' && !state.nested) return { inline: state.content.value };
      keeps.push(arg);
      return { ref: runtime.wireRef(state) };
    }
    const sendable = runtime.encode(arg, `args[${index}]`, name);
    if (sendable.refs.length > 0) keeps.push(...sendable.refs);
    if (sendable.bytes > INLINE_BYTES_MAX) {
      const ref = runtime.put(arg);
      keeps.push(ref);
      return { ref: runtime.wireRef(ObjectRef.stateOf(ref)) };
    }
    bytes += sendable.bytes;
    const { body, buffers, refs } = sendable.encoded;
    return {
      inline: {
        body,
        buffers: buffers.length > 0 ? buffers.map((buffer) => new Uint8Array(buffer)) : (NO_ARGS as never),
        refs: refs as wire.Ref.$Properties[],
      },
    };
  });
  return { args: encoded, keeps, bytes };
}

/** Starts a call: the message to send, and the ref to its result. */
export function invocation(
  runtime: Runtime,
  carrier: Carrier,
  name: string,
  target: { readonly method?: string; readonly code?: wire.CodeRef.$Properties },
  args: readonly unknown[],
  retries: number,
  calledFrom: (...args: never[]) => unknown,
  pool: TaskPool | null,
): { readonly invocation: Invocation; readonly ref: ObjectRef<unknown> } {
  const encoded = encodeArguments(runtime, args, name);
  const { sequence, state } = runtime.newObject();
  state.site = runtime.callSite(calledFrom);
  const message = {
    code: target.code,
    method: target.method,
    args: encoded.args as wire.Argument.$Properties[],
    returnSequence: sequence,
  };
  const started = new Invocation(runtime, carrier, name, message, encoded, state, retries, pool);
  return { invocation: started, ref: runtime.refTo(state) };
}

/** Arguments of an actor's constructor: they wait in the head, so that large ones must be refs. */
export function encodeSpecArguments(
  runtime: Runtime,
  args: readonly unknown[],
  name: string,
): { readonly args: wire.SpecArgument.$Properties[]; readonly keeps: readonly unknown[] } {
  const encoded = encodeArguments(runtime, args, name);
  return { args: encoded.args as wire.SpecArgument.$Properties[], keeps: encoded.keeps };
}
