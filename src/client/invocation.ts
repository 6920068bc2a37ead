// One call on its way: what is sent, who has it, what it may do when it is lost, and where its answer goes.
import { CancelledError, ConfigError } from '../common/index.js';
import { type CloseReason, failureOf, type wire } from '../protocol/index.js';
import type { CallContext } from './call-context.js';
import type { Maker } from './lineage.js';
import { ObjectRef } from './object-ref.js';
import type { Cancellable, CancelOptions, ObjectState } from './object-state.js';
import type { PeerLink, PendingCall } from './peer-link.js';
import type { Runtime } from './runtime.js';

/** What all calls of one function or method have in common. */
export interface CallShape {
  readonly name: string; // "Counter.add", for messages
  readonly method: string | undefined;
  /** Of tasks; known once it was located. */
  code: wire.CodeRef.$Properties | undefined;
  readonly retries: number; // -1: without limit
  /** Known once they were located. */
  retryOn: wire.CodeRef.$Properties[] | undefined;
  readonly returns: 'value' | 'items' | number; // a number: so many values, each an object
  readonly aheadMax: number;
  readonly group: string | undefined;
  readonly priority: number;
}

/** Who has a call at the moment: an actor's client, a pool of tasks, a lease. */
export interface Carrier {
  answered(invocation: Invocation): void;
  broken(invocation: Invocation, reason: CloseReason): void;
  cancel(invocation: Invocation): void;
  /** Ends what runs the call, if it still does after `afterMs`. */
  force(invocation: Invocation, afterMs: number): void;
}

/** Who starts calls, and takes those that are tried again. */
export interface Sender extends Carrier {
  /** Whether what runs a call may be ended because of it. */
  readonly canForce: boolean;
  /**
   * Runs the call of `maker` once more for what was lost of its results: `state`, or what `outcome` takes. `keeps` are its
   * arguments that this process owns. Null where calls are not for their results alone.
   */
  readonly runAgain:
    | ((maker: Maker, keeps: readonly ObjectState[], state: ObjectState, outcome: Outcome | null) => Invocation)
    | null;
  send(invocation: Invocation): void;
}

/** Where an answer goes that is more than one object. */
export interface Outcome {
  /** What the worker must know of it, as of now. */
  readonly stream: wire.Stream.$Properties | undefined;
  /** Set: of its several results these alone. */
  readonly only: wire.Parts.$Properties | undefined;
  sent(link: PeerLink, callId: number): void;
  item(item: wire.Item, call: Invocation): void;
  settle(result: wire.Result, taken: () => void, call: Invocation): void;
  fail(error: Error): void;
}

/** Kept until it is answered, sent again when it may be. One object a call: there are many. */
export class Invocation implements PendingCall, Cancellable {
  readonly shape: CallShape;
  readonly message: Omit<wire.Call.$Properties, 'id'>;
  readonly bytes: number;
  readonly state: ObjectState;
  readonly outcome: Outcome | null;
  /** Refs in the arguments: kept until the answer. */
  readonly keeps: readonly unknown[];
  readonly #runtime: Runtime;
  readonly sender: Sender;
  readonly #parent: CallContext | null;
  carrier: Carrier;
  retriesLeft: number;
  isCancelled = false;
  /** How its stored results are made again; set with the first of them. */
  maker: Maker | null = null;
  #link: PeerLink | null = null;
  #callId = 0;

  constructor(
    runtime: Runtime,
    sender: Sender,
    shape: CallShape,
    message: Omit<wire.Call.$Properties, 'id'>,
    encoded: { readonly bytes: number; readonly keeps: readonly unknown[] },
    state: ObjectState,
    outcome: Outcome | null,
    parent: CallContext | null,
  ) {
    this.#runtime = runtime;
    this.sender = sender;
    this.carrier = sender;
    this.shape = shape;
    this.message = message;
    this.bytes = encoded.bytes;
    this.keeps = encoded.keeps;
    this.state = state;
    this.outcome = outcome;
    this.retriesLeft = shape.retries;
    this.#parent = parent;
    state.invocation = this;
    parent?.children?.add(this);
    this.#countArguments(1);
  }

  get name(): string {
    return this.shape.name;
  }

  sendOn(link: PeerLink, carrier: Carrier): void {
    this.carrier = carrier;
    this.#link = link;
    if (this.outcome) {
      this.message.stream = this.outcome.stream;
      this.message.only = this.outcome.only;
    }
    this.#callId = link.call(this.message, this.bytes, this);
    this.outcome?.sent(link, this.#callId);
  }

  answered(result: wire.Result): void {
    const link = this.#link;
    this.#link = null;
    if (result.mayRetry && this.retriesLeft !== 0 && !this.isCancelled) {
      if (this.retriesLeft > 0) this.retriesLeft -= 1;
      this.carrier.answered(this);
      this.sender.send(this);
      return;
    }
    const taken = (): void => link?.stream.taken(result.callId);
    if (result.location && !this.outcome) this.#runtime.lineage.keep(this.state, this);
    if (this.outcome) this.outcome.settle(result, taken, this);
    else this.#runtime.writer.settleResult(this.state, result, taken);
    this.#ended();
    this.carrier.answered(this);
  }
  item(item: wire.Item): void {
    this.outcome?.item(item, this);
  }
  broken(reason: CloseReason): void {
    this.#link = null;
    this.carrier.broken(this, reason);
  }
  fail(error: Error): void {
    this.#ended();
    if (this.outcome) this.outcome.fail(error);
    else this.state.settle({ kind: 'failed', failure: failureOf(error), local: null });
  }
  #ended(): void {
    this.#parent?.children?.delete(this);
    this.#countArguments(-1);
  }
  #countArguments(delta: 1 | -1): void {
    for (const kept of this.keeps) if (ObjectRef.isRef(kept)) ObjectRef.stateOf(kept).argumentCount += delta;
  }
  /** Whether a carrier that was lost may send it again; counts that. */
  mayGoAgain(): boolean {
    if (this.retriesLeft > 0) {
      this.retriesLeft -= 1;
      return true;
    }
    return this.retriesLeft === -1;
  }

  cancel({ forceAfterMs, recursive = true }: CancelOptions = {}): void {
    if (forceAfterMs !== undefined && !this.sender.canForce)
      throw new ConfigError(
        'forceAfterMs',
        'left out for calls of actors',
        forceAfterMs,
        'kill(handle) ends the actor',
      );
    this.isCancelled = true;
    if (this.#link) {
      this.#link.stream.cancel({ callId: this.#callId, keepsChildren: !recursive });
      if (forceAfterMs !== undefined) this.carrier.force(this, forceAfterMs);
    } else this.carrier.cancel(this);
  }
}

export const cancelled = (): CancelledError => new CancelledError({ taskId: null });
