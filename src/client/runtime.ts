// One process's part in a cluster: who it is, and the parts that it is made of. Drivers and workers are the same here; a worker
// adds what runs calls.
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobId, NodeId, WorkerId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import type { ActorClient } from './actor-client.js';
import type { AgentLink } from './agent-link.js';
import type { Awake } from './awake.js';
import { CallSites } from './call-site.js';
import type { NodeDrain } from './cluster-info.js';
import type { PackageFolder } from './code-ref.js';
import type { HeadLink } from './head-link.js';
import { Lineage } from './lineage.js';
import { moveObjects } from './move-objects.js';
import { ObjectReader } from './object-reader.js';
import type { ObjectState } from './object-state.js';
import { type Leftover, ObjectTable } from './object-table.js';
import { INLINE_BYTES_MAX, ObjectWriter } from './object-writer.js';
import { type CallRunner, PeerService } from './peer-service.js';
import type { Peers } from './peers.js';
import type { ObjectStore } from './store.js';
import type { TaskPool } from './task-pool.js';
import { type ExchangeHost, type HandleHost, ValueExchange } from './value-exchange.js';

/** How often what has come to nodes that are to leave is looked for. */
const MOVE_INTERVAL_MS = 200;

export interface RuntimeParts {
  readonly isDriver: boolean;
  readonly agent: AgentLink;
  readonly attached: wire.Attached;
  readonly store: ObjectStore;
  readonly token: string;
  readonly awake: Awake;
}

export class Runtime implements ExchangeHost {
  readonly isDriver: boolean;
  readonly agent: AgentLink;
  readonly attached: wire.Attached;
  readonly store: ObjectStore;
  readonly token: string;
  readonly awake: Awake;
  workerId: WorkerId;
  /** Whether the head knows that all of this worker waits. */
  isBlocked = false;
  /** The actor that runs in this process. */
  actor: { readonly actorId: string; readonly incarnation: number } | null = null;
  /** Of a placement group, that this worker runs in. */
  bundle: wire.BundleWish.$Properties | null = null;
  jobId = '' as JobId;
  namespace = '';
  runtimeEnv: wire.RuntimeEnv.$Properties = {};
  peers!: Peers; // set once, by whoever opens the door (it needs this object to answer)
  head!: HeadLink;
  handles!: HandleHost;
  runner: CallRunner | null = null;
  /** Of an actor: ends the calls that it has, then runs its exit hooks. */
  endGracefully: (() => Promise<void>) | null = null;
  /** Of a worker: what it still has to tell its agent. */
  tellActivity: (() => void) | null = null;
  /** Nodes that are to leave. */
  draining: ReadonlyMap<NodeId, NodeDrain> = new Map();
  readonly actors = new Map<string, ActorClient>();
  readonly taskPools = new Map<string, TaskPool>();
  /** The folder that this driver uploaded. */
  workingDir: PackageFolder | null = null;

  readonly sites: CallSites;
  readonly objects: ObjectTable;
  readonly values: ValueExchange;
  readonly writer: ObjectWriter;
  readonly reader: ObjectReader;
  readonly lineage: Lineage;
  readonly service: PeerService;
  #waits = 0;
  #isClosed = false;
  #moving: Promise<void> = Promise.resolve();

  constructor(parts: RuntimeParts, workerId: WorkerId) {
    this.isDriver = parts.isDriver;
    this.agent = parts.agent;
    this.attached = parts.attached;
    this.store = parts.store;
    this.token = parts.token;
    this.awake = parts.awake;
    this.workerId = workerId;
    const recordsSites = process.env.RAYLITE_RECORD_CALL_SITES === '1';
    this.sites = new CallSites(recordsSites);
    this.objects = new ObjectTable(this, recordsSites, (leftover) => this.#free(leftover));
    this.values = new ValueExchange(this, this.objects);
    this.writer = new ObjectWriter(this, this.objects, this.values);
    this.reader = new ObjectReader(this, this.values);
    this.lineage = new Lineage(this);
    this.service = new PeerService(this, this.objects, this.lineage);
  }

  get nodeId(): NodeId {
    return this.store.nodeId;
  }
  /** Whether this is the only part of a cluster in its process; not so in local mode. */
  get isAlone(): boolean {
    return this.attached.arenaPath !== '';
  }
  /** Values up to here travel inside messages; without an arena (local mode) all do. */
  get inlineBytesMax(): number {
    return this.isAlone ? INLINE_BYTES_MAX : Number.POSITIVE_INFINITY;
  }

  /** Number of a new `wait` for several objects. */
  nextWait(): number {
    this.#waits += 1;
    return this.#waits;
  }

  /** The value of an object, for code that runs in this process and waits for it. Rejects with its failure. */
  read(state: ObjectState): Promise<unknown> {
    return state.isAtHand ? this.reader.fetch(state) : this.waiting(this.reader.fetch(state));
  }
  letGo(state: ObjectState): void {
    this.objects.letGo(state);
  }
  /** Nobody here holds the object any more: its owner is told, or its bytes are given back. */
  #free({ id, owner, location }: Leftover): void {
    if (owner) this.peers.linked(owner.workerId ?? '')?.returnBorrow(id);
    else if (location) {
      if (location.nodeId === this.nodeId) this.store.reclaim(id);
      this.agent.freed(id, location);
    }
  }

  /**
   * What code of this process waits for: a driver does not end before; a worker may run, and its CPUs may be, others'
   * meanwhile.
   */
  waiting<T>(value: Promise<T>): Promise<T> {
    this.beginWait();
    return value.then(
      (got) => {
        this.endWait();
        return got;
      },
      (error: unknown) => {
        this.endWait();
        throw error;
      },
    );
  }
  beginWait(): void {
    if (this.runner) this.runner.blocked(1);
    else this.awake.begin();
  }
  endWait(): void {
    if (this.runner) this.runner.blocked(-1);
    else this.awake.end();
  }

  /** Others wait for workers: those that do nothing for this process are given back. */
  giveWay(): void {
    for (const pool of this.taskPools.values()) pool.giveWay();
  }

  /** The head says which nodes are to leave: their workers get no more tasks of this process. */
  nodesDraining({ nodes }: wire.NodesDraining): void {
    const nowMs = Date.now();
    const drainOf = ({ reason, message, remainingMs }: wire.Drain.$Properties): NodeDrain => ({
      reason: reason === 'idle-termination' ? reason : 'preemption',
      message: message ?? '',
      deadlineAtMs: remainingMs == null ? null : nowMs + remainingMs,
    });
    this.draining = new Map(nodes.map(({ nodeId, drain }) => [nodeId as NodeId, drainOf(drain ?? {})]));
    for (const pool of this.taskPools.values()) pool.leaveNodes();
    // Of what lies where it leaves itself nothing is kept: it ends with its node.
    if (this.isAlone && !this.draining.has(this.nodeId)) this.#moving = this.#moving.then(() => this.#moveObjects());
  }

  /** Also what comes while others move: results of calls that run there. */
  async #moveObjects(): Promise<void> {
    while (this.draining.size > 0 && !this.#isClosed) {
      await moveObjects(this, new Set(this.draining.keys()));
      await sleep(MOVE_INTERVAL_MS, undefined, { ref: false });
    }
  }

  /** Ends this process's part: calls that have no result yet fail, peers see orderly closes, the agent frees what we owned. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.awake.begin();
    const left = this.head.left();
    for (const actor of this.actors.values()) actor.close(left);
    for (const pool of this.taskPools.values()) pool.close(left);
    await this.peers[Symbol.asyncDispose]();
    this.objects.freeLent();
    this.head.close();
    this.agent.exiting('done');
    this.agent.close('done');
    this.awake.end();
  }
}
