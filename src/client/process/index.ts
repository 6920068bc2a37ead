// The second door of client/, for the worker process: the parts from which it makes its side of the API.
export { ActorExit } from '../actor.js';
export { handleHost } from '../actor-handle.js';
export { AgentLink, type AgentPushes } from '../agent-link.js';
export { Awake } from '../awake.js';
export { type CallContext, runAs, runInCall } from '../call-context.js';
export { loadCode } from '../code-ref.js';
export { currentRuntime, setRuntime } from '../current.js';
export { HeadLink, headOverGrpc } from '../head-link.js';
export type { LocalCluster } from '../local-cluster.js';
export { ObjectRef } from '../object-ref.js';
export { type Accept, type PeerDoor, SocketDoor } from '../peer-door.js';
export type { PeerLink } from '../peer-link.js';
export { Peers } from '../peers.js';
export { acceptsRetry } from '../retry-rules.js';
export { type CallRunner, copied, Runtime } from '../runtime.js';
export { ObjectStore } from '../store.js';
export { layoutValue } from '../stored-value.js';
