// The door of observe/: what is seen of a cluster. Used by all, knows nobody.
export * from './run.js';
