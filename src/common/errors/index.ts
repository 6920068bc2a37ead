// Every error that raylite itself raises, a file per family: class, stable code, what happened, whether to try again, what the
// user can do. The table of errors in README.md lists the same classes, which `npm run lint` holds.
export * from './actor-errors.js';
export { RayliteError, show } from './base.js';
export * from './call-errors.js';
export * from './cluster-errors.js';
export * from './engine-errors.js';
export * from './input-errors.js';
export * from './object-errors.js';
export * from './queue-errors.js';
