// The second door of client/, for the worker process: the parts from which it makes its side of the API.
export { ActorExit } from '../actor.js';
export { handleHost } from '../actor-handle.js';
export { AgentLink } from '../agent-link.js';
export { Awake } from '../awake.js';
export { type CallContext, runInCall } from '../call-context.js';
export { loadCode } from '../code-ref.js';
export { setRuntime } from '../current.js';
export { HeadLink } from '../head-link.js';
export { ObjectRef } from '../object-ref.js';
export type { PeerLink } from '../peer-link.js';
export { Peers } from '../peers.js';
export { acceptsRetry } from '../retry-rules.js';
export { type CallRunner, copied, INLINE_BYTES_MAX, Runtime } from '../runtime.js';
export { ObjectStore } from '../store.js';
export { layoutValue } from '../stored-value.js';
