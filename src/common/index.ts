// The door of common/: words that every room shares. Imports nothing of ours.
export * from './boot.js';
export * from './columns.js';
export * from './errors/index.js';
export * from './ids.js';
export * from './job-output.js';
export * from './package-root.js';
export * from './packages.js';
export * from './process-name.js';
export * from './resources.js';
export * from './setting.js';
export * from './value-at.js';
