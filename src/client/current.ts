// The cluster that `actor`, `task`, `put`, … mean: the one that the call that asks is part of, else the one that this process
// joined last. One per process by the design of the API; kept on globalThis so that two copies of this package in one process agree.
import { ConfigError } from '../common/index.js';
import { runtimeOfCall } from './call-context.js';
import type { Runtime } from './runtime.js';

const CURRENT = Symbol.for('raylite.current');
const globals = globalThis as Record<symbol, Runtime | null | undefined>;

export function currentRuntime(): Runtime {
  const runtime = findRuntime();
  if (!runtime)
    throw new ConfigError(
      'cluster',
      'a cluster that was joined',
      undefined,
      'Write "await using cluster = await init()" first; once it is left, refs and handles can no longer be used',
    );
  return runtime;
}

export const findRuntime = (): Runtime | null => runtimeOfCall() ?? globals[CURRENT] ?? null;

export function setRuntime(runtime: Runtime | null): void {
  globals[CURRENT] = runtime;
}
