// The door of launch/: starting and finding the processes of a cluster on this machine.
// Packing a working directory has a door of its own, package/index.ts: few processes do it.
export { type EmbeddedCluster, startEmbedded } from './embedded.js';
export { defaultStoreBytes, lookAtMachine, type Machine } from './machine.js';
export { type NodeOffer, offeredResources } from './offer.js';
export { isHeadProcess, isOurs, stopProcesses } from './processes.js';
export {
  adoptCurrent,
  newSession,
  pruneSessions,
  readCurrent,
  readHeadOptions,
  readToken,
  removeCurrent,
  type Session,
  saveHeadOptions,
  sessionRoot,
  writeCurrent,
} from './session.js';
export { type AnyStarted, type Started, StartFailedError, startProcess } from './start-process.js';
