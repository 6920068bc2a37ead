// What the head keeps of each thing in a cluster, and what is asked for when one is made: nodes, workers, actors, leases, groups, jobs.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, Resources, WorkerId } from '../common/index.js';
import type { GpuRoom } from './scheduler/gpu-room.js';
import type { Demand, PlacedBy } from './scheduler/place.js';
import type { GroupStrategy } from './scheduler/place-bundles.js';

/** Where a process can be called (proto WorkerAddress). */
export interface Address {
  readonly workerId: string;
  readonly nodeId: string;
  readonly uds: string;
  readonly tcp: string;
}

export interface RuntimeEnv {
  readonly package: string;
  readonly envVars: Readonly<Record<string, string>>;
  /** Which code workers run first. */
  readonly setup?: { readonly module: string; readonly name: string; readonly package: string };
  /** npm packages: texts of package.json and package-lock.json (or empty). */
  readonly npm?: { readonly packageJson: string; readonly lockfile: string };
}

/** What a node says about itself when it joins. */
export interface NodeFacts {
  readonly nodeId: NodeId;
  readonly host: string;
  readonly hostname: string;
  readonly total: Resources;
  readonly labels: Readonly<Record<string, string>>;
  readonly transfer: string;
  readonly uds: string;
  readonly pid: number;
  readonly version: string;
  readonly isHead: boolean;
}

export interface NodeBeat {
  readonly cpuPercent: number;
  readonly memoryUsedBytes: number;
  readonly memoryTotalBytes: number;
  readonly storeUsedBytes: number;
  readonly storeTotalBytes: number;
  readonly workerCount: number;
  /** Objects of owners elsewhere. Null: it was not told to count them. */
  readonly keptForOthers: number | null;
  readonly workers: readonly WorkerUse[];
  readonly gpus: readonly GpuUse[];
}

/** A GPU that a node offers, as its agent saw it last. */
export interface GpuUse {
  readonly device: number; // of the node, from 0
  readonly id: string;
  readonly name: string;
  readonly memoryUsedBytes: number;
  readonly memoryTotalBytes: number;
  readonly busyPercent: number; // below 0: not told
  readonly fault: string; // or empty
}

/** A worker as its agent saw it last. */
export interface WorkerUse {
  readonly workerId: string;
  readonly pid: number;
  readonly name: string; // class of its actor, or empty
  readonly actorId: string; // or empty
  readonly jobId: string;
  readonly cpuPercent: number;
  readonly memoryBytes: number;
  readonly running: readonly string[];
  readonly startedAtMs: number;
}

/** A node is to leave: nothing new is placed there. */
export interface DrainOrder {
  /** `idle-termination`: it is given back for want of work, and only where nothing runs there. As Ray's. */
  readonly reason: 'idle-termination' | 'preemption';
  readonly message: string; // why, for people; or empty
  /** When what still runs there is ended. Null: it has as long as it takes. */
  readonly deadlineAtMs: number | null;
}

/**
 * connected → away (its stream broke, or the head restarted) → connected (it came back in time), or dead (silent for
 * too long; final: a dead node that comes back is told to end its workers and joins under a new id).
 */
export interface NodeRecord extends NodeFacts {
  status: 'connected' | 'away' | 'dead';
  used: Resources;
  /** Its devices, in their order. */
  gpus: GpuRoom;
  beat: NodeBeat | null;
  /** Set: it is to leave (drain-state.ts). */
  drain?: DrainOrder;
  readonly joinedAtMs: number;
  endedAtMs: number | null;
  endReason: string | null;
}

/** One bundle of a placement group. */
export interface BundlePlace {
  readonly groupId: GroupId;
  readonly index: number;
}

/** Where resources are held: on a node, or in a bundle that was set aside there; and GPUs, on which devices of the node. */
export interface Place {
  readonly nodeId: NodeId;
  readonly bundle?: BundlePlace;
  readonly gpus?: readonly number[];
}

/** A process that the head asked a node to run. Holds its resources until the node says that it is gone. */
export interface WorkerRecord {
  readonly workerId: WorkerId;
  readonly nodeId: NodeId;
  /** Where in a placement group it runs: what it holds is the bundle's. */
  bundle?: BundlePlace;
  /** Devices of its node that it sees. */
  readonly gpus?: readonly number[];
  holds: Resources;
  /** Its CPUs, while it waits for objects and others may use them; not in `holds` then. */
  lent?: Resources;
  /** Among which workers it counts where SPREAD counts; null: among none, it is ending. */
  alike: string | null;
  /** null: it was told to stop and nobody waits for it. */
  purpose:
    | { readonly kind: 'actor'; readonly actorId: ActorId }
    | { readonly kind: 'lease'; readonly leaseId: LeaseId }
    | null;
}

/** How a worker's process ended, in words and as facts. */
export interface WorkerEnd {
  readonly detail: string; // "its process exited with code 1"
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly lastLogLines: readonly string[];
  readonly isIntended: boolean;
  /** Why its node ended it (encoded wire.Failure), where it did. */
  readonly cause: Uint8Array | null;
  /** The watch over the memory of its node ended it. */
  readonly isForMemory?: boolean;
  /** Its node was drained, which takes no restart. */
  readonly isDrained?: boolean;
}

/** Code is named, never carried (proto CodeRef). */
export interface CodeRef {
  readonly module: string;
  readonly name: string;
  readonly package: string;
}

/** What a client asks for when it makes an actor. `payload` is the ActorSpec message as it came. */
export interface ActorRequest {
  readonly actorId: ActorId;
  readonly className: string;
  readonly code: CodeRef;
  readonly name: string;
  readonly namespace: string;
  readonly jobId: JobId;
  readonly ownerId: WorkerId;
  readonly isDetached: boolean;
  readonly maxRestarts: number; // -1: always
  readonly waitsIfInfeasible: boolean;
  readonly demand: Demand;
  readonly holds: Resources; // while it lives; Ray's rule makes it differ from what placing needs
  readonly payload: Uint8Array;
  readonly handle: Uint8Array; // what callers must know of its class
  readonly getOrCreate: boolean;
}

/** Why an actor is gone. `cause` is an encoded Failure message where user code threw. */
export interface Death {
  readonly detail: string;
  readonly lastLogLines: readonly string[];
  readonly cause: Uint8Array | null;
}

/**
 * pending → starting → alive → pending (restart) … → dead (final).
 * Shown to users as PENDING_CREATION (RESTARTING from the second incarnation on), ALIVE and DEAD.
 */
export type ActorPhase =
  | { readonly kind: 'pending' }
  | { readonly kind: 'starting'; readonly nodeId: NodeId; readonly workerId: WorkerId }
  | {
      readonly kind: 'alive';
      readonly nodeId: NodeId;
      readonly workerId: WorkerId;
      readonly address: Address;
      readonly pid: number;
    }
  | { readonly kind: 'dead'; readonly death: Death; readonly endedAtMs: number };

export interface ActorRecord extends ActorRequest {
  phase: ActorPhase;
  /** Where in its placement group it runs. */
  bundle?: BundlePlace;
  /** On which devices of its node. */
  gpus?: readonly number[];
  /** What decided for its node when it was last placed. */
  placedBy?: PlacedBy;
  incarnation: number; // from 1: how many times it was started or is about to be
  restartCount: number;
  failedStarts: number; // in a row, without a constructor having run
  readonly createdAtMs: number;
}

export interface LeaseRequest {
  readonly priority: number; // larger first
  readonly waitsIfInfeasible: boolean;
  readonly leaseId: LeaseId;
  readonly ownerId: WorkerId;
  readonly jobId: JobId;
  readonly demand: Demand;
  readonly runtimeEnv: RuntimeEnv;
  /** Its tasks start what they start in the same placement group. */
  readonly capturesChildren: boolean;
  /** Its tasks run again after a crash. */
  readonly isRetriable: boolean;
}

export type LeasePhase =
  | { readonly kind: 'pending'; readonly request: number | null }
  | { readonly kind: 'starting'; readonly nodeId: NodeId; readonly workerId: WorkerId; readonly request: number | null }
  | { readonly kind: 'granted'; readonly nodeId: NodeId; readonly workerId: WorkerId; readonly address: Address };

export interface LeaseRecord extends LeaseRequest {
  phase: LeasePhase;
  bundle?: BundlePlace;
  gpus?: readonly number[];
  placedBy?: PlacedBy;
  failedStarts: number;
}

/** What a client asks for when it makes a placement group. */
export interface GroupRequest {
  readonly groupId: GroupId;
  readonly name: string;
  readonly namespace: string;
  readonly jobId: JobId;
  readonly ownerId: WorkerId;
  readonly isDetached: boolean;
  readonly waitsIfInfeasible: boolean;
  readonly strategy: GroupStrategy;
  readonly domain: string; // label whose value all its nodes share, or ''
  readonly bundles: readonly { readonly needs: Resources; readonly selector: Readonly<Record<string, string>> }[];
}

/** Where a bundle is set aside, and what of it the workers there hold. Null: nowhere (yet, or since its node was lost). */
export interface BundleRecord {
  nodeId: NodeId | null;
  used: Resources;
  /** The devices that are set aside, and what of them is free. */
  gpus: GpuRoom;
}

export interface GroupRecord extends GroupRequest {
  phase: { readonly kind: 'pending' } | { readonly kind: 'created' } | { readonly kind: 'rescheduling' };
  places: BundleRecord[]; // of the bundles, in their order
  readonly createdAtMs: number;
  /** Requests that wait for it to be created; the memory of one head. */
  waiters: number[];
}

export type JobStatus = 'PENDING' | 'RUNNING' | 'STOPPED' | 'SUCCEEDED' | 'FAILED';

export interface JobRequest {
  readonly jobId: JobId;
  readonly entrypoint: string;
  readonly runtimeEnv: RuntimeEnv;
  readonly demand: Demand;
  readonly metadata: Readonly<Record<string, string>>;
}

/** PENDING → RUNNING → STOPPED | SUCCEEDED | FAILED; the last three are final. */
export interface JobRecord extends JobRequest {
  /** SUBMISSION: the cluster runs its entrypoint. DRIVER: somebody else's process, known while it is connected. */
  readonly type: 'SUBMISSION' | 'DRIVER';
  status: JobStatus;
  message: string;
  nodeId: NodeId | null;
  gpus?: readonly number[];
  placedBy?: PlacedBy;
  driverId: WorkerId | null;
  exitCode: number | null;
  isStopRequested: boolean;
  readonly submittedAtMs: number;
  startedAtMs: number | null;
  endedAtMs: number | null;
}

export interface ClientRecord {
  readonly workerId: WorkerId;
  readonly isDriver: boolean;
  readonly jobId: JobId;
  readonly namespace: string;
  /** Where its process is. Null: it has not come back yet since the head was started again. */
  readonly nodeId: NodeId | null;
}
