// The door of observe/: what is seen of a cluster. Used by all, knows nobody.
export * from './log.js';
export * from './run.js';
