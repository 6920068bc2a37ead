// raylite: actors, tasks and shared objects on one machine or many.
//
//   await using cluster = await init();
//   const counter = await actor(Counter, { maxRestarts: 3 }).create();
//   console.log(await counter.add(2), await task(square)(3));
export {
  ActorDiedError,
  ActorUnavailableError,
  CancelledError,
  CodeNotFoundError,
  ConfigError,
  ConnectionError,
  DataError,
  EngineError,
  GetTimeoutError,
  HeadStateError,
  InfeasibleError,
  ObjectLostError,
  ObjectReconstructionFailedError,
  OutOfDiskError,
  OwnerDiedError,
  RayliteError,
  SerializationError,
  StoreFullError,
  TaskError,
  TrainingError,
  WorkerCrashedError,
} from '../common/index.js';
export type { NodeOffer } from '../launch/index.js';
export type { ActorHandle, ActorMaker, Arguments } from './actor-handle.js';
export { actor, actorIdOf, getActor, kill } from './actor-handle.js';
export * from './cluster-info.js';
export * from './get-wait.js';
export { type Cluster, type InitOptions, init, type RuntimeEnvOptions } from './init.js';
export { ObjectRef } from './object-ref.js';
export type { ActorOptions, PlacementOptions, SchedulingStrategy, TaskOptions } from './options.js';
export { task } from './task.js';
