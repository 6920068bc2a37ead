// Tasks of one kind (resources, environment, strategy): keeps many in flight on each leased worker while they are short, and
// runs again what a crashed worker took with it.
import type { LeaseId } from '../common/index.js';
import { CrashedTasks } from './crashed-tasks.js';
import { cancelled, Invocation, type Outcome, type Sender } from './invocation.js';
import { Lease, type LeaseHolder } from './lease.js';
import { LeaseRequests, type LeaseSeeker, type TaskDemand } from './lease-requests.js';
import type { Maker } from './lineage.js';
import type { ObjectState } from './object-state.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';
import { TaskQueue } from './task-queue.js';

const REQUESTS_MAX = 8; // leases asked for at a time
const IN_FLIGHT_MAX = 512;
/** Tasks whose mean is longer than this are not queued behind each other: another worker may come. */
const SHORT_MS = 5;

export class TaskPool implements Sender {
  readonly canForce = true;
  readonly demand: TaskDemand;
  readonly #runtime: Runtime;
  readonly #queue = new TaskQueue();
  readonly #crashedTasks = new CrashedTasks((invocation) => this.send(invocation));
  readonly #leases = new Set<Lease>();
  readonly #requests: LeaseRequests;
  /** Others wait for workers, also for those that are on their way to this pool. */
  #isWanted = false;
  #left: Error | null = null; // once this process is no part of the cluster any more
  #meanMs = Number.POSITIVE_INFINITY; // of one task on one worker; unknown at first

  constructor(runtime: Runtime, demand: TaskDemand) {
    this.#runtime = runtime;
    this.demand = demand;
    this.#requests = new LeaseRequests(runtime, this.#seeker());
  }

  send(invocation: Invocation): void {
    if (this.#left) {
      invocation.fail(this.#left);
      return;
    }
    this.#queue.push(invocation);
    this.#dispatch();
  }

  /** This process leaves the cluster: all tasks that have no result yet, or come later, fail with `left`. */
  close(left: Error): void {
    this.#left = left;
    this.#failQueue(left);
    this.#crashedTasks.close(left);
  }
  #failQueue(error: Error): void {
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) next.fail(error);
  }

  /** Runs a task that was answered before once more: its result was lost. */
  readonly runAgain = (
    maker: Maker,
    keeps: readonly ObjectState[],
    state: ObjectState,
    outcome: Outcome | null,
  ): Invocation => {
    const { message, bytes, retriesLeft: retries } = maker;
    const shape = { ...maker.shape, retries };
    const again = new Invocation(this.#runtime, this, shape, { ...message }, { bytes, keeps }, state, outcome, null);
    again.maker = maker;
    this.send(again);
    return again;
  };

  /** A task that waits here is taken back. */
  cancel(invocation: Invocation): void {
    this.#queue.remove(invocation);
    this.#crashedTasks.remove(invocation);
    invocation.fail(cancelled());
    this.#dispatch();
  }
  answered(): void {} // leases answer
  broken(): void {}
  force(): void {}

  /** Others wait for workers: what this pool has now is given back as soon as it has nothing to do. */
  giveWay(): void {
    this.#isWanted = this.#requests.count > 0;
    for (const lease of this.#leases) lease.giveWay();
  }

  /** Some nodes are to leave: no more tasks go there. */
  leaveNodes(): void {
    const { draining } = this.#runtime;
    for (const lease of this.#leases) if (draining.has(lease.nodeId)) lease.leave();
    this.#dispatch();
  }

  /** How many tasks one worker may have: one while tasks are long, many while they are short. */
  get #depth(): number {
    if (this.#meanMs > SHORT_MS) return 1;
    return Math.max(2, Math.min(IN_FLIGHT_MAX, Math.floor(20 / Math.max(this.#meanMs, 0.01))));
  }

  #dispatch(): void {
    const queue = this.#queue;
    const depth = this.#depth;
    for (const lease of this.#leases)
      while (queue.size > 0 && lease.inFlight < depth && lease.takesMore) lease.send(queue.shift()!);
    this.#requests.want(Math.min(REQUESTS_MAX, Math.ceil(queue.size / depth)), queue.first?.shape.priority ?? 0);
    if (this.#requests.count === 0) this.#isWanted = false; // nothing is on its way that others waited for
  }

  #seeker(): LeaseSeeker {
    return {
      demand: this.demand,
      first: () => this.#queue.first,
      hasLeases: () => this.#leases.size > 0,
      granted: (id, link) => this.#granted(id, link),
      reconsider: () => this.#dispatch(),
      refused: (error) => this.#failQueue(error),
    };
  }

  #granted(id: LeaseId, link: PeerLink): void {
    const lease = new Lease(id, link, this.#runtime.head, this.#holder, this.#isWanted);
    this.#leases.add(lease);
    if (this.#runtime.draining.has(lease.nodeId)) lease.leave();
    link.stream.onClose(() => {
      if (lease.isOver) return;
      lease.lose();
      this.#dispatch();
    });
    this.#dispatch();
    if (lease.inFlight === 0) lease.giveBackWhenIdle();
  }

  readonly #holder: LeaseHolder = {
    answered: (lease, ms) => {
      // Time between two answers of a busy worker is the time of one task.
      this.#meanMs = Number.isFinite(this.#meanMs) ? 0.9 * this.#meanMs + 0.1 * ms : ms;
      if (this.#queue.size > 0) this.#dispatch();
      if (lease.inFlight === 0) lease.giveBackWhenIdle();
    },
    crashed: (invocation, lease, detail) => {
      this.#crashed(invocation, lease, detail);
      queueMicrotask(() => this.#dispatch());
    },
    over: (lease) => this.#leases.delete(lease),
  };

  #crashed(invocation: Invocation, lease: Lease, detail: string): void {
    // A worker that was ended because of another task takes no retry of this one.
    if (this.#left) invocation.fail(this.#left);
    else if (invocation.isCancelled) invocation.fail(cancelled());
    else if (lease.isForced && invocation.retriesLeft !== 0) this.#queue.push(invocation);
    else this.#crashedTasks.take(invocation, lease, detail).catch(() => {}); // never rejects
  }
}
