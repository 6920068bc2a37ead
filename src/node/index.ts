// The door of node/: one machine. It runs as a process of its own (main.ts); others talk to it by proto/node.proto.
export { Agent } from './agent.js';
export { findCgroups } from './worker-cgroups.js';
