// What the head knows, as plain data: tables of what there is, and who belongs to whom. The rules that change it are in the
// *-state.ts files; nothing here reads a clock or opens a socket.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, WorkerId } from '../common/index.js';
import type {
  ActorRecord,
  ClientRecord,
  GroupRecord,
  JobRecord,
  LeaseRecord,
  NodeRecord,
  WorkerEnd,
  WorkerRecord,
} from './entities.js';
import type { IdleWorker } from './handover.js';
import { Multimap } from './multimap.js';
import { PendingQueue } from './pending-queue.js';
import { NodeIndex } from './scheduler/node-index.js';

export interface ClusterState {
  readonly nodes: Map<NodeId, NodeRecord>;
  readonly workers: Map<WorkerId, WorkerRecord>;
  readonly actors: Map<ActorId, ActorRecord>;
  /** Live named actors: "<namespace>/<name>" → id. */
  readonly names: Map<string, ActorId>;
  readonly leases: Map<LeaseId, LeaseRecord>;
  readonly jobs: Map<JobId, JobRecord>;
  readonly groups: Map<GroupId, GroupRecord>;
  readonly clients: Map<WorkerId, ClientRecord>;
  readonly pending: PendingQueue;
  /** Finds nodes for demands. */
  readonly index: NodeIndex;
  /** What belongs to whom (`tables.ts`): of owners, of jobs, of nodes, of placement groups. Ended actors are in none. */
  readonly actorsOf: Multimap<WorkerId, ActorId>;
  readonly actorsOfJob: Multimap<JobId, ActorId>;
  readonly leasesOf: Multimap<WorkerId, LeaseId>;
  readonly groupsOf: Multimap<WorkerId, GroupId>;
  readonly workersAt: Multimap<NodeId, WorkerId>;
  readonly actorsIn: Multimap<GroupId, ActorId>;
  readonly leasesIn: Multimap<GroupId, LeaseId>;
  readonly workersIn: Multimap<GroupId, WorkerId>;
  /** In order of their ends. */
  readonly endedActors: Set<ActorId>;
  /** Holders of leases who do not know that others wait for room. */
  readonly untold: Set<WorkerId>;
  /** Workers between two leases. */
  readonly idle: Map<WorkerId, IdleWorker>;
  /** How workers of leases that nobody has given back yet ended; their holders will ask. */
  readonly leaseEnds: Map<LeaseId, WorkerEnd>;
  /** Requests that wait to hear how a worker ended. */
  readonly endQuestions: Map<WorkerId, number>;
  /** Source of worker ids; a parameter so that tests can read them. */
  readonly newWorkerId: () => WorkerId;
}

/** How many ended records are kept to be looked at. */
export const ENDED_ACTORS_MAX = 1000;
export const ENDED_JOBS_MAX = 1000;
export const ENDED_NODES_MAX = 100;
export const LEASE_ENDS_MAX = 1000;
/** Starts of one worker that may fail in a row (no constructor ran) before its actor or lease fails. */
export const FAILED_STARTS_MAX = 3;

export const createClusterState = (newWorkerId: () => WorkerId): ClusterState => ({
  nodes: new Map(),
  workers: new Map(),
  actors: new Map(),
  names: new Map(),
  leases: new Map(),
  jobs: new Map(),
  groups: new Map(),
  clients: new Map(),
  pending: new PendingQueue(),
  index: new NodeIndex(),
  actorsOf: new Multimap(),
  actorsOfJob: new Multimap(),
  leasesOf: new Multimap(),
  groupsOf: new Multimap(),
  workersAt: new Multimap(),
  actorsIn: new Multimap(),
  leasesIn: new Multimap(),
  workersIn: new Multimap(),
  endedActors: new Set(),
  untold: new Set(),
  idle: new Map(),
  leaseEnds: new Map(),
  endQuestions: new Map(),
  newWorkerId,
});
