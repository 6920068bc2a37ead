// How lost objects are made again: their owner keeps, within bounds, the calls of the tasks that made them, and runs them
// again when no copy is left. Arguments that are gone too are made again before, those that are lost when they are asked for.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError, type ObjectId, ObjectLostError, ObjectReconstructionFailedError } from '../common/index.js';
import { failureOf, type wire } from '../protocol/index.js';
import type { CallShape, Invocation, Sender } from './invocation.js';
import type { ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';

/** Bytes of calls that an owner keeps; the older half goes when there are more. As Ray's max_lineage_bytes. */
const BYTES_MAX = Number(process.env.RAYLITE_MAX_LINEAGE_BYTES) || 1024 * 1024 * 1024;
/** Of a kept call, beside its arguments. */
const CALL_BYTES = 256;
/** How often a node that is alive, but could not be read from, is asked again before the object counts as lost. */
const ATTEMPTS_MAX = 20;
const ATTEMPT_MS = 250;

const TIDY_MIN = 1024;

/** The call that made a stored object. */
export interface Maker {
  readonly name: string;
  /** Null: not a task, or dropped to stay within bounds. */
  call: {
    readonly shape: CallShape;
    readonly message: Invocation['message'];
    readonly runAgain: NonNullable<Sender['runAgain']>;
  } | null;
  readonly isTask: boolean;
  /** One of several results, or an item of a generator. */
  readonly isPart: boolean;
  readonly bytes: number;
  readonly retries: number;
  retriesLeft: number;
  /** Of its arguments that this process owns too. */
  readonly args: ReadonlyMap<ObjectId, Maker | null>;
}

export class Lineage {
  readonly #runtime: Runtime;
  readonly #gone = new FinalizationRegistry<number>((bytes) => {
    this.#bytes -= bytes;
  });
  #makers: WeakRef<Maker>[] = []; // oldest first
  #bytes = 0;
  #tidyAt = TIDY_MIN;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Notes how the object of a call that was answered is made again. */
  keep({ shape, message, bytes, state, sender, retriesLeft }: Invocation): void {
    const { name, retries } = shape;
    const { runAgain } = sender;
    const args = new Map<ObjectId, Maker | null>();
    if (runAgain)
      for (const id of ownArguments(message, this.#runtime)) args.set(id, this.#runtime.find(id)?.maker ?? null);
    const call = runAgain && { shape, message, runAgain };
    const maker: Maker = {
      name,
      call,
      isTask: call !== null,
      isPart: false,
      bytes: bytes + CALL_BYTES,
      retries,
      retriesLeft,
      args,
    };
    state.maker = maker;
    if (!call) return;
    this.#makers.push(new WeakRef(maker));
    this.#gone.register(maker, maker.bytes, maker);
    this.#bytes += maker.bytes;
    if (this.#makers.length > this.#tidyAt) this.#tidy();
    if (this.#bytes > BYTES_MAX) this.#drop();
  }

  /** Notes that an object is one of several that a call made. */
  keepPart(state: ObjectState, { name, retries, method }: CallShape): void {
    const isTask = method === undefined;
    state.maker = { name, call: null, isTask, isPart: true, bytes: 0, retries, retriesLeft: retries, args: new Map() };
  }

  /** Takes what was collected out of the list, each time that it has grown to twice its length. */
  #tidy(): void {
    this.#makers = this.#makers.filter((weak) => weak.deref()?.call);
    this.#tidyAt = Math.max(TIDY_MIN, 2 * this.#makers.length);
  }

  /** The older half is forgotten: what it made cannot be made again. */
  #drop(): void {
    let bytes = this.#bytes;
    const kept = this.#makers.filter((weak) => {
      const maker = weak.deref();
      if (!maker?.call) return false;
      if (bytes <= BYTES_MAX / 2) return true;
      bytes -= maker.bytes;
      maker.call = null;
      this.#gone.unregister(maker);
      return false;
    });
    this.#makers = kept;
    this.#bytes = bytes;
  }

  /**
   * Called when reading `state` where it was said to lie has failed with `error`, for the `attempt`-th time. Resolves when
   * the object may be read again: it is somewhere else, being made again, or settled with why not. Rejects with `error`
   * when that is no loss.
   */
  async recover(state: ObjectState, from: wire.Location.$Properties, error: unknown, attempt: number): Promise<void> {
    const isUnreachable = error instanceof ConnectionError && error.address === from.transfer;
    if (!(error instanceof ObjectLostError) && !isUnreachable) throw error;
    if (isUnreachable && attempt < ATTEMPTS_MAX && (await this.#isAlive(from.nodeId ?? ''))) {
      await sleep(ATTEMPT_MS);
      return;
    }
    this.lostAt(state, from, error);
  }

  /** The object is not at `from` any more, if it is said to be there: asks its owner, or makes it again. */
  lostAt(state: ObjectState, from: wire.Location.$Properties, cause: Error = goneFrom(state, from)): void {
    if (state.content?.kind !== 'stored' || !isSame(state.content.location, from)) return; // somebody was faster
    this.#runtime.unsettle(state);
    if (state.owner) {
      this.#runtime.ask(state, from);
      return;
    }
    this.#runtime.agent.freed(state.id, from); // what is left of it there (damaged bytes, say) is of no use
    this.#make(state, cause);
  }

  async #isAlive(nodeId: string): Promise<boolean> {
    const reply = await this.#runtime.head.request({ listNodes: {} });
    return reply.nodes?.nodes?.some((node) => node.nodeId === nodeId && node.state === 'ALIVE') ?? false;
  }

  /** Runs the task of a pending object again, or settles it with why that cannot be. */
  #make(state: ObjectState, cause: Error): void {
    const { maker } = state;
    const refusal = refusalOf(maker);
    if (!maker?.call || refusal !== null) {
      const facts = { objectId: state.id, reason: refusal?.reason ?? 'put', detail: refusal?.detail ?? '' } as const;
      const error = new ObjectReconstructionFailedError(facts, { cause });
      state.settle({ kind: 'failed', failure: failureOf(error), local: error });
      return;
    }
    if (maker.retriesLeft > 0) maker.retriesLeft -= 1;
    const { shape, message, runAgain } = maker.call;
    const keeps = ownArguments(message, this.#runtime).map((id) => this.#argument(id, maker, cause));
    const encoded = { bytes: maker.bytes - CALL_BYTES, keeps };
    runAgain(shape, message, encoded, state, maker.retriesLeft);
  }

  /** An argument of a call that runs again: as it is, or made again when nobody held it any more. */
  #argument(id: ObjectId, { args }: Maker, cause: Error): ObjectState {
    const there = this.#runtime.find(id);
    if (there && there.content?.kind !== 'released') return there;
    const again = this.#runtime.revive(id);
    again.maker = args.get(id) ?? null;
    this.#make(again, cause);
    return again;
  }
}

const goneFrom = ({ id }: ObjectState, { nodeId }: wire.Location.$Properties): Error =>
  new ObjectLostError({ objectId: id, detail: `node ${nodeId} has no copy of it any more` });

const isSame = (a: wire.Location.$Properties, b: wire.Location.$Properties): boolean =>
  a.nodeId === b.nodeId && a.slab === b.slab && a.serial === b.serial;

function refusalOf(
  maker: Maker | null,
): { readonly reason: 'put' | 'actor' | 'retries' | 'lineage'; readonly detail: string } | null {
  if (!maker) return { reason: 'put', detail: 'it was put, not made by a task, so that nothing can make it again' };
  if (!maker.isTask)
    return {
      reason: 'actor',
      detail: `it was made by ${maker.name}, and calls of actors are not run again for their results`,
    };
  if (maker.retriesLeft === 0)
    return { reason: 'retries', detail: `${maker.name} made it, and none of its ${maker.retries} retries is left` };
  if (maker.isPart)
    return { reason: 'lineage', detail: `it is one of several results of ${maker.name}, which are not made again` };
  if (!maker.call)
    return {
      reason: 'lineage',
      detail: `the call of ${maker.name} that made it was forgotten to stay below ${BYTES_MAX} bytes (RAYLITE_MAX_LINEAGE_BYTES)`,
    };
  return null;
}

/** Refs in the arguments of a call, at the top and nested, to objects of this process. */
function ownArguments(message: Invocation['message'], { workerId }: Runtime): readonly ObjectId[] {
  const refs = (message.args ?? []).flatMap((arg) => (arg.ref ? [arg.ref] : (arg.inline?.refs ?? [])));
  return refs.filter(({ owner }) => owner?.workerId === workerId).map(({ objectId }) => objectId as ObjectId);
}
