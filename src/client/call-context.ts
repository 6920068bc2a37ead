// The call that code of this process runs in, at any time of it: also after an await, and in whatever it started.
// Kept on globalThis so that two copies of this package in one process agree.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Cancellable } from './object-state.js';
import type { Runtime } from './runtime.js';

export interface CallContext {
  /** Aborted when the call is cancelled, or its caller is gone. */
  readonly signal: AbortSignal;
  /** Calls made by this one and not answered yet: they are cancelled with it. */
  readonly children: Set<Cancellable>;
}

const CONTEXT = Symbol.for('raylite.call');
const globals = globalThis as Record<symbol, AsyncLocalStorage<CallContext> | undefined>;
globals[CONTEXT] ??= new AsyncLocalStorage<CallContext>();
const storage = globals[CONTEXT];

/** Runs `start`, and all that follows from it, as part of `call`. From the first use on every promise of the process costs more. */
export const runInCall = <T>(call: CallContext, start: () => T): T => storage.run(call, start);

/** The call that the code that asks is part of; null in drivers, and in what a module does when it is loaded. */
export const currentCall = ({ runner }: Runtime): CallContext | null => storage.getStore() ?? runner?.current ?? null;
