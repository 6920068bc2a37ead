// The door of head/: cluster rules and the processes' view of them.
export * from './cluster-state.js';
export * from './scheduler/place.js';
export { type ClusterEvent, step } from './step.js';
