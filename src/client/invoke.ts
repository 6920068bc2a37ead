// What all calls share: their arguments taken apart, the object of their result, settling it.
import type { wire } from '../protocol/index.js';
import { ObjectRef } from './object-ref.js';
import type { ObjectState } from './object-state.js';
import { INLINE_BYTES_MAX, type Runtime } from './runtime.js';

/** One call on its way: kept until it is answered, sent again when it may be. */
export interface Invocation {
  readonly name: string; // "Counter.add", for messages
  readonly message: Omit<wire.Call.$Properties, 'id'>;
  readonly bytes: number;
  readonly state: ObjectState;
  /** Refs in the arguments: kept until the answer. */
  readonly keeps: readonly unknown[];
  retriesLeft: number;
  isCancelled: boolean;
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
    const sendable = runtime.encode(arg, `argument ${index + 1} of ${name}`);
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
  name: string,
  target: { readonly method?: string; readonly code?: wire.CodeRef.$Properties },
  args: readonly unknown[],
  retries: number,
  calledFrom: (...args: never[]) => unknown,
): { readonly invocation: Invocation; readonly ref: ObjectRef<unknown> } {
  const encoded = encodeArguments(runtime, args, name);
  const { sequence, state } = runtime.newObject();
  const site: { stack?: string } = {};
  Error.captureStackTrace(site, calledFrom);
  state.site = site;
  const message = {
    ...target,
    args: encoded.args as wire.Argument.$Properties[],
    returnSequence: sequence,
  };
  const started: Invocation = {
    name,
    message,
    bytes: encoded.bytes,
    state,
    keeps: encoded.keeps,
    retriesLeft: retries,
    isCancelled: false,
  };
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
