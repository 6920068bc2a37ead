// The door of worker/: how user code is loaded, ordered, cancelled and answered in its process.
export { startWorker, type WorkerPlace } from './worker.js';
