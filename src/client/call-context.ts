// The call that code of this process runs in, at any time of it: also after an await, and in whatever it started. In local
// mode, where one process has the parts of several, it says whose part code runs in.
// Kept on globalThis so that two copies of this package in one process agree.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Cancellable } from './object-state.js';
import type { Runtime } from './runtime.js';

export interface CallContext {
  /** Whose code it is. */
  readonly runtime: Runtime;
  /** Aborted when the call is cancelled, or its caller is gone. Null where no call runs: in constructors and exit hooks. */
  readonly signal: AbortSignal | null;
  /** Calls made by this one and not answered yet: they are cancelled with it. */
  readonly children: Set<Cancellable> | null;
}

const CONTEXT = Symbol.for('raylite.call');
const globals = globalThis as Record<symbol, AsyncLocalStorage<CallContext> | undefined>;
globals[CONTEXT] ??= new AsyncLocalStorage<CallContext>();
const storage = globals[CONTEXT];

/** Runs `start`, and all that follows from it, as part of `call`. From the first use on every promise of the process costs more. */
export const runInCall = <T>(call: CallContext, start: () => T): T => storage.run(call, start);

/** The call that the code that asks is part of; null in drivers, and in what a module does when it is loaded. */
export const currentCall = ({ runner }: Runtime): CallContext | null => storage.getStore() ?? runner?.current ?? null;

/** Runs code that is part of no call: an actor's constructor, its exit hooks. */
export const runAs = <T>(runtime: Runtime, start: () => T): T =>
  runtime.isAlone ? start() : storage.run({ runtime, signal: null, children: null }, start);

/** Whose code asks, where that is known from its call. */
export const runtimeOfCall = (): Runtime | null => storage.getStore()?.runtime ?? null;
