// How every call begins: its arguments taken apart, the objects of its results.
import type { wire } from '../protocol/index.js';
import { currentCall } from './call-context.js';
import { type CallShape, Invocation, type Outcome, type Sender } from './invocation.js';
import { ItemStream } from './item-stream.js';
import { ObjectRef } from './object-ref.js';
import { ObjectRefGenerator } from './object-ref-generator.js';
import { ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';
import { Tuple } from './tuple.js';

const NO_ARGS: readonly never[] = [];

/** Takes the arguments of a call apart. Refs stay refs; a large value becomes an object of its own. */
function encodeArguments(
  runtime: Runtime,
  args: readonly unknown[],
  name: string,
  calledFrom: (...args: never[]) => unknown,
): { readonly args: readonly wire.Argument.$Properties[]; readonly keeps: readonly unknown[]; readonly bytes: number } {
  if (args.length === 0) return { args: NO_ARGS, keeps: NO_ARGS, bytes: 0 };
  const keeps: unknown[] = [];
  let bytes = 0;
  const encoded = args.map((arg, index): wire.Argument.$Properties => {
    if (ObjectRef.isRef(arg)) {
      const state = ObjectRef.stateOf(arg);
      if (state.content?.kind === 'inline' && !state.nested) return { inline: state.content.value };
      keeps.push(arg);
      state.face ??= new WeakRef(arg);
      return { ref: runtime.values.wireRef(state) };
    }
    const sendable = runtime.values.encode(arg, `args[${index}]`, name);
    if (sendable.refs.length > 0) keeps.push(...sendable.refs);
    if (sendable.bytes > runtime.inlineBytesMax) {
      const ref = runtime.writer.put(arg, calledFrom);
      keeps.push(ref);
      return { ref: runtime.values.wireRef(ObjectRef.stateOf(ref)) };
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

/** What a call gives at once, by its shape. */
export type Given = ObjectRef<unknown> | readonly ObjectRef<unknown>[] | ObjectRefGenerator<unknown>;

/** Starts a call: the message to send, and what the caller gets for its results. */
export function startCall(
  runtime: Runtime,
  sender: Sender,
  shape: CallShape,
  args: readonly unknown[],
  calledFrom: (...args: never[]) => unknown,
): { readonly invocation: Invocation; readonly given: Given } {
  const encoded = encodeArguments(runtime, args, shape.name, calledFrom);
  const { returns } = shape;
  const { sequence, state } = runtime.objects.create(typeof returns === 'number' ? returns : 1);
  state.site = runtime.sites.ofCall(calledFrom);
  const message: Omit<wire.Call.$Properties, 'id'> = {
    code: shape.code,
    method: shape.method,
    args: encoded.args as wire.Argument.$Properties[],
    returnSequence: sequence,
    concurrencyGroup: shape.group,
    retryOn: shape.retryOn,
  };
  const parent = currentCall(runtime);
  const make = (outcome: Outcome | null): Invocation =>
    new Invocation(runtime, sender, shape, message, encoded, state, outcome, parent);
  if (returns === 'value') return { invocation: make(null), given: runtime.objects.refTo(state) };
  if (returns === 'items') {
    const stream = new ItemStream(runtime, state, sequence, shape.aheadMax);
    return { invocation: make(stream), given: new ObjectRefGenerator(stream, runtime) };
  }
  message.returnCount = returns;
  const states = [state];
  for (let index = 1; index < returns; index += 1) {
    const next = new ObjectState(runtime.workerId, sequence + index, null);
    next.site = state.site;
    states.push(next);
  }
  const invocation = make(new Tuple(runtime, states));
  for (const each of states) each.invocation = invocation;
  return { invocation, given: states.map((each) => runtime.objects.refTo(each)) };
}

/** Arguments of an actor's constructor: they wait in the head, so that large ones must be refs. */
export function encodeSpecArguments(
  runtime: Runtime,
  args: readonly unknown[],
  name: string,
): { readonly args: wire.SpecArgument.$Properties[]; readonly keeps: readonly unknown[] } {
  const encoded = encodeArguments(runtime, args, name, encodeSpecArguments);
  return { args: encoded.args as wire.SpecArgument.$Properties[], keeps: encoded.keeps };
}
