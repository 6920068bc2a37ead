/**
 * Actors, tasks and shared objects on one machine or many.
 *
 * ```ts
 * await using cluster = await init();
 * const counter = await actor(Counter, { maxRestarts: 3 }).create();
 * console.log(await counter.add(2), await task(square)(3));
 * ```
 * @module raylite
 */
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
  OutOfMemoryError,
  OwnerDiedError,
  PendingCallsLimitError,
  PlacementGroupRemovedError,
  QueueEmptyError,
  QueueFullError,
  RayliteError,
  RuntimeEnvSetupError,
  SerializationError,
  StoreFullError,
  TaskError,
  TrainingError,
  WorkerCrashedError,
} from '../common/index.js';
export type { NodeOffer } from '../launch/index.js';
export { type ActorMaker, actor, exitActor, getActor, listNamedActors, type NamedActor } from './actor.js';
export { type ActorHandle, type ActorMethod, actorIdOf, kill, stop } from './actor-handle.js';
export { ActorPool, type PoolCall } from './actor-pool.js';
export * from './cluster-info.js';
export * from './get-wait.js';
export { type Cluster, type InitOptions, init } from './init.js';
export { ObjectRef } from './object-ref.js';
export { ObjectRefGenerator } from './object-ref-generator.js';
export type { CancelOptions } from './object-state.js';
export type {
  ActorOptions,
  BundleChoice,
  CallOptions,
  PlacementOptions,
  ResourceOptions,
  SchedulingStrategy,
  TaskOptions,
} from './options.js';
export {
  type Bundle,
  currentPlacementGroup,
  getPlacementGroup,
  PlacementGroup,
  type PlacementGroupInfo,
  type PlacementGroupOptions,
  type PlacementGroupStrategy,
  placementGroup,
} from './placement-group.js';
export { Queue, type QueueWait } from './queue.js';
export type { RetryOn, RetryRule } from './retry-rules.js';
export type { Arguments, ItemOf, RefsOf, Returned } from './returns.js';
export type { NpmFiles, RuntimeEnvOptions, WorkEnvOptions } from './runtime-env.js';
export { task } from './task.js';
