// How lost objects are made again: their owner keeps, within bounds, the calls of the tasks that made them, and runs them
// again when no copy is left. Arguments that are gone too are made again before, those that are lost when they are asked for.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError, type ObjectId, ObjectLostError, ObjectReconstructionFailedError } from '../common/index.js';
import { asError, type wire } from '../protocol/index.js';
import type { CallShape, Invocation, Sender } from './invocation.js';
import { failed, LostParts, partIdOf, placeOf } from './lost-parts.js';
import { isServing } from './node-states.js';
import { type Cancellable, ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';

/** Bytes of calls that an owner keeps; the older half goes when there are more. As Ray's max_lineage_bytes. */
const BYTES_MAX = Number(process.env.RAYLITE_MAX_LINEAGE_BYTES) || 1024 * 1024 * 1024;
/** Of a kept call, beside its arguments. */
const CALL_BYTES = 256;
/** How often a node that is alive, but could not be read from, is asked again before the object counts as lost. */
const ATTEMPTS_MAX = 20;
const ATTEMPT_MS = 250;

const TIDY_MIN = 1024;

/** The call that made a stored object, or several. */
export interface Maker {
  readonly shape: CallShape;
  readonly message: Invocation['message'];
  /** Null: not a task, or forgotten to stay within bounds. */
  runAgain: Sender['runAgain'];
  readonly isTask: boolean;
  readonly bytes: number; // of its arguments
  readonly sequence: number; // of its first object
  retriesLeft: number;
  /** Of its arguments that this process owns too. */
  readonly args: ReadonlyMap<ObjectId, Maker | null>;
  /** Of several results: those that were lost and are not made again yet, by their places. */
  readonly lost: Map<number, ObjectState>;
  /** The call runs again for some of them, or is about to. */
  isRunning: boolean;
  /** Behind the place of the last stored one. */
  partsEnd: number;
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

  /** Notes how the stored result of a call is made again. */
  keep(state: ObjectState, call: Invocation): void {
    call.maker ??= this.#makerOf(call);
    call.maker.retriesLeft = call.retriesLeft;
    state.maker = call.maker;
  }
  /** The same of one of several results, the `index`-th. */
  keepPart(state: ObjectState, index: number, call: Invocation): void {
    call.maker ??= this.#makerOf(call);
    call.maker.partsEnd = Math.max(call.maker.partsEnd, index + 1);
    state.maker = call.maker;
  }

  #makerOf({ shape, message, bytes, sender: { runAgain }, retriesLeft }: Invocation): Maker {
    const isTask = runAgain !== null;
    const args = new Map<ObjectId, Maker | null>();
    if (isTask)
      for (const id of ownArguments(message, this.#runtime))
        args.set(id, this.#runtime.objects.find(id)?.maker ?? null);
    const maker = { shape, message, runAgain, isTask, bytes, retriesLeft, args, sequence: message.returnSequence ?? 0 };
    const made: Maker = { ...maker, lost: new Map(), isRunning: false, partsEnd: 0 };
    if (!isTask) return made;
    const kept = bytes + CALL_BYTES;
    this.#makers.push(new WeakRef(made));
    this.#gone.register(made, kept, made);
    this.#bytes += kept;
    if (this.#makers.length > this.#tidyAt) this.#tidy();
    if (this.#bytes > BYTES_MAX) this.#drop();
    return made;
  }

  /** Takes what was collected out of the list, each time that it has grown to twice its length. */
  #tidy(): void {
    this.#makers = this.#makers.filter((weak) => weak.deref()?.runAgain);
    this.#tidyAt = Math.max(TIDY_MIN, 2 * this.#makers.length);
  }

  /** The older half is forgotten: what it made cannot be made again. */
  #drop(): void {
    let bytes = this.#bytes;
    const kept = this.#makers.filter((weak) => {
      const maker = weak.deref();
      if (!maker?.runAgain) return false;
      if (bytes <= BYTES_MAX / 2) return true;
      bytes -= maker.bytes + CALL_BYTES;
      maker.runAgain = null;
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
    this.#runtime.objects.unsettle(state);
    if (state.owner) {
      this.#runtime.reader.ask(state, from);
      return;
    }
    this.#runtime.agent.freed(state.id, from); // what is left of it there (damaged bytes, say) is of no use
    this.#make(state, from.nodeId ?? null, cause);
  }

  async #isAlive(nodeId: string): Promise<boolean> {
    const reply = await this.#runtime.head.request({ listNodes: {} });
    return reply.nodes?.nodes?.some((node) => node.nodeId === nodeId && isServing(node.state)) ?? false;
  }

  /** Runs the task of a pending object again, or settles it with why that cannot be. `nodeId`: where it was lost. */
  #make(state: ObjectState, nodeId: string | null, cause: Error): void {
    const { maker } = state;
    if (!maker || maker.shape.returns === 'value') {
      this.#begin(maker, [state], cause)?.(state, null);
      return;
    }
    maker.lost.set(placeOf(state.id, maker), state);
    if (maker.isRunning) return; // what it does not bring is seen to behind it
    maker.isRunning = true;
    this.#loseSiblings(maker, nodeId)
      .catch(() => {}) // the head does not answer: each is found to be lost when it is read
      .then(() => this.#makeParts(maker, cause))
      .catch((error: unknown) => {
        for (const each of maker.lost.values()) each.settle(failed(asError(error)));
      });
  }

  /** With a node that is gone all results went that the call had left there: one run makes them again. */
  async #loseSiblings(maker: Maker, nodeId: string | null): Promise<void> {
    if (nodeId === null || (await this.#isAlive(nodeId))) return;
    for (let index = 0; index < maker.partsEnd; index += 1) {
      const state = this.#runtime.objects.find(partIdOf(maker, index, this.#runtime.workerId));
      if (state?.content?.kind !== 'stored' || state.content.location.nodeId !== nodeId) continue;
      this.#runtime.objects.unsettle(state);
      maker.lost.set(index, state);
    }
  }

  #makeParts(maker: Maker, cause: Error): void {
    for (const [index, { content }] of maker.lost) if (content) maker.lost.delete(index); // nobody wants it any more
    const states = [...maker.lost.values()];
    const run = states.length > 0 ? this.#begin(maker, states, cause) : null;
    maker.isRunning = run !== null;
    if (!run) {
      maker.lost.clear();
      return;
    }
    const outcome = new LostParts(this.#runtime, maker, () => this.#makeParts(maker, cause));
    const again = run(new ObjectState(this.#runtime.workerId, maker.sequence, null), outcome);
    for (const state of states) state.invocation = again;
  }

  /** What runs the call once more, having taken one of its retries; null when it cannot be: `states` say why. */
  #begin(
    maker: Maker | null,
    states: readonly ObjectState[],
    cause: Error,
  ): ((state: ObjectState, outcome: LostParts | null) => Cancellable) | null {
    const refusal = refusalOf(maker);
    if (!maker?.runAgain || refusal !== null) {
      for (const state of states) {
        const facts = { objectId: state.id, reason: refusal?.reason ?? 'put', detail: refusal?.detail ?? '' } as const;
        state.settle(failed(new ObjectReconstructionFailedError(facts, { cause })));
      }
      return null;
    }
    if (maker.retriesLeft > 0) maker.retriesLeft -= 1;
    const { runAgain } = maker;
    const keeps = ownArguments(maker.message, this.#runtime).map((id) => this.#argument(id, maker, cause));
    return (state, outcome) => runAgain(maker, keeps, state, outcome);
  }

  /** An argument of a call that runs again: as it is, or made again when nobody held it any more. */
  #argument(id: ObjectId, { args }: Maker, cause: Error): ObjectState {
    const there = this.#runtime.objects.find(id);
    if (there && there.content?.kind !== 'released') return there;
    const again = this.#runtime.objects.revive(id);
    again.maker = args.get(id) ?? null;
    this.#make(again, null, cause);
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
  const { name, retries } = maker.shape;
  if (!maker.isTask)
    return {
      reason: 'actor',
      detail: `it was made by ${name}, and calls of actors are not run again for their results`,
    };
  if (maker.retriesLeft === 0)
    return { reason: 'retries', detail: `${name} made it, and none of its ${retries} retries is left` };
  if (!maker.runAgain)
    return {
      reason: 'lineage',
      detail: `the call of ${name} that made it was forgotten to stay below ${BYTES_MAX} bytes (RAYLITE_MAX_LINEAGE_BYTES)`,
    };
  return null;
}

/** Refs in the arguments of a call, at the top and nested, to objects of this process. */
function ownArguments(message: Invocation['message'], { workerId }: Runtime): readonly ObjectId[] {
  const refs = (message.args ?? []).flatMap((arg) => (arg.ref ? [arg.ref] : (arg.inline?.refs ?? [])));
  return refs.filter(({ owner }) => owner?.workerId === workerId).map(({ objectId }) => objectId as ObjectId);
}
