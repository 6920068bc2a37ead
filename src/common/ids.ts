// Branded ids. A bare string never names a node, worker, actor, task, object or job.
import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;
type Id<Kind extends string> = string & { readonly [brand]: Kind };

export type ClusterId = Id<'cluster'>;
export type NodeId = Id<'node'>;
export type WorkerId = Id<'worker'>;
export type ActorId = Id<'actor'>;
export type TaskId = Id<'task'>;
export type ObjectId = Id<'object'>;
export type JobId = Id<'job'>;
export type LeaseId = Id<'lease'>;
export type GroupId = Id<'group'>; // of a placement group
export type RunId = Id<'run'>;

const random = (bytes: number): string => randomBytes(bytes).toString('hex');

export const newClusterId = (): ClusterId => random(8) as ClusterId;
export const newNodeId = (): NodeId => random(8) as NodeId;
export const newWorkerId = (): WorkerId => random(6) as WorkerId;
export const newActorId = (): ActorId => random(8) as ActorId;
export const newJobId = (): JobId => `job-${random(6)}` as JobId;
export const newLeaseId = (): LeaseId => random(8) as LeaseId;
export const newGroupId = (): GroupId => `pg-${random(8)}` as GroupId;
export const newRunId = (): RunId => random(4) as RunId;

/** The `sequence`-th object that `owner` made: unique without asking anyone, and its owner can be read from it. */
export const objectIdOf = (owner: WorkerId, sequence: number): ObjectId =>
  `${owner}-${sequence.toString(36)}` as ObjectId;

/** The `index`-th item of a generator whose result is object `sequence`. */
export const itemIdOf = (owner: WorkerId, sequence: number, index: number): ObjectId =>
  `${owner}-${sequence.toString(36)}.${index.toString(36)}` as ObjectId;

/** Which item of its generator it is; null: no item. */
export function itemIndexOf(objectId: ObjectId): number | null {
  const dot = objectId.lastIndexOf('.');
  return dot < 0 ? null : Number.parseInt(objectId.slice(dot + 1), 36);
}

/** The worker that owns `objectId`. */
export const ownerOf = (objectId: ObjectId): WorkerId => objectId.slice(0, objectId.lastIndexOf('-')) as WorkerId;

/** Which of its owner's objects it is. */
export const sequenceOf = (objectId: ObjectId): number =>
  Number.parseInt(objectId.slice(objectId.lastIndexOf('-') + 1), 36);
