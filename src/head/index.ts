// The door of head/: the cluster's rules, and a whole head to start.

export { serveClient } from './client-stream.js';
export * from './cluster-state.js';
export * from './effects.js';
export * from './entities.js';
export { type Explanation, explain } from './explain.js';
export { httpCensus } from './http/app.js';
export type * from './http/calls-view.js';
export type { DrainRequest } from './http/drain-request.js';
export type { JobSubmission } from './http/job-request.js';
export type * from './http/objects-view.js';
export type * from './http/views.js';
export { LevelStore } from './level-store.js';
export { openMemoryHead } from './memory-head.js';
export { serveNode } from './node-stream.js';
export { waitReason, waitReasons } from './schedule.js';
export * from './scheduler/explain.js';
export * from './scheduler/gpu-room.js';
export { labelTest } from './scheduler/labels.js';
export { NodeIndex } from './scheduler/node-index.js';
export * from './scheduler/place.js';
export * from './scheduler/place-bundles.js';
export { type Head, startHead } from './server.js';
export { type ClusterEvent, step } from './step.js';
export type { Store } from './store.js';
