// Tasks of one kind (resources, environment, strategy): leases workers from the head, keeps many tasks in flight on each
// while they are short, gives idle workers back, runs again what a crashed worker took with it.
import { setTimeout as sleep } from 'node:timers/promises';
import { type LeaseId, type NodeId, newLeaseId, WorkerCrashedError, type WorkerId } from '../common/index.js';
import { errorOf, type wire } from '../protocol/index.js';
import { type Carrier, cancelled, Invocation, type Outcome, type Sender } from './invocation.js';
import type { Maker } from './lineage.js';
import { nodeOfMostBytes } from './locality.js';
import type { ObjectState } from './object-state.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';
import { TaskQueue } from './task-queue.js';

const IDLE_MS_MAX = 1_000;
/** The same while others wait for workers: no longer than between two tasks that follow each other. */
const WANTED_IDLE_MS_MAX = 2;
/** How long the head is waited for to say how a worker ended. */
const NEWS_MS_MAX = 10_000;
/** How long the first task of a pool waits for a worker before the user is told what for. */
const WAIT_MS_UNTOLD = 3_000;
const REQUESTS_MAX = 8; // leases asked for at a time
/**
 * A request that is not needed any more is taken back after so long, not at once: work often comes in bursts, and a worker
 * that was on its way to this one would never come to the next.
 */
const UNNEEDED_MS_MAX = 100;
const IN_FLIGHT_MAX = 512;
/** Tasks whose mean is longer than this are not queued behind each other: another worker may come. */
const SHORT_MS = 5;

interface HeldLease extends Carrier {
  readonly id: LeaseId;
  readonly link: PeerLink;
  flying: number;
  idleTimer: NodeJS.Timeout | null;
  /** Others wait for what it takes. */
  isWanted: boolean;
  isOver: boolean;
  isForced: boolean;
  lastAnswerMs: number;
  /** How its worker ended; asked for when its stream broke. */
  end: Promise<wire.WorkerEnd.$Properties | null> | null;
}

export interface TaskDemand {
  readonly resources: Readonly<Record<string, number>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly strategy: string;
  runtimeEnv: wire.RuntimeEnv.$Properties; // set before the first task is sent
  readonly waitsIfInfeasible: boolean;
  readonly fallbackLabels: readonly Readonly<Record<string, string>>[];
  readonly bundle: wire.BundleWish.$Properties | null;
  /** The other node that holds the arguments of its tasks; null: this one, or none. */
  readonly locality: string | null;
}

export class TaskPool implements Sender {
  readonly canForce = true;
  readonly #runtime: Runtime;
  readonly demand: TaskDemand;
  readonly #queue = new TaskQueue();
  #askedPriority = 0;
  /** The most leases that were wanted since the timer began. */
  #wantedLately = 0;
  #unneeded: NodeJS.Timeout | null = null;
  readonly #leases = new Set<HeldLease>();
  readonly #asked = new Set<LeaseId>();
  #late: NodeJS.Timeout | null = null; // until the first lease comes
  #hasTold = false;
  /** Others wait for workers, also for those that are on their way to this pool. */
  #isWanted = false;
  #left: Error | null = null; // once this process is no part of the cluster any more
  #meanMs = Number.POSITIVE_INFINITY; // of one task on one worker; unknown at first

  constructor(runtime: Runtime, demand: TaskDemand) {
    this.#runtime = runtime;
    this.demand = demand;
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
    invocation.fail(cancelled());
    this.#dispatch();
  }
  answered(): void {} // leases answer
  broken(): void {}
  force(): void {}

  /** How many tasks one worker may have: one while tasks are long, many while they are short. */
  get #depth(): number {
    if (this.#meanMs > SHORT_MS) return 1;
    return Math.max(2, Math.min(IN_FLIGHT_MAX, Math.floor(20 / Math.max(this.#meanMs, 0.01))));
  }

  #dispatch(): void {
    const queue = this.#queue;
    const depth = this.#depth;
    for (const lease of this.#leases) {
      while (queue.size > 0 && lease.flying < depth && !lease.isOver) this.#sendOn(lease, queue.shift()!);
    }
    // Requests of a lower priority would stand behind others that this one may pass.
    const priority = queue.first?.shape.priority ?? 0;
    if (priority > this.#askedPriority) this.#cancelRequests(0);
    if (this.#asked.size === 0) this.#askedPriority = priority;
    const wanted = Math.min(REQUESTS_MAX, Math.ceil(queue.size / depth));
    if (wanted > this.#wantedLately) this.#wantedLately = wanted;
    while (this.#asked.size < wanted) this.#ask();
    if (this.#asked.size > wanted) this.#unneeded ??= setTimeout(this.#takeBack, UNNEEDED_MS_MAX).unref();
  }

  /** Takes back the requests that were not needed for a while. */
  readonly #takeBack = (): void => {
    this.#unneeded = null;
    this.#cancelRequests(this.#wantedLately);
    this.#wantedLately = 0;
    if (this.#asked.size > 0) this.#dispatch();
  };

  #ask(): void {
    const id = newLeaseId();
    this.#asked.add(id);
    if (this.#leases.size === 0 && !this.#hasTold)
      this.#late ??= setTimeout(() => this.#tellWhy(), WAIT_MS_UNTOLD).unref();
    const { resources, labels, strategy, runtimeEnv, waitsIfInfeasible, bundle, fallbackLabels } = this.demand;
    // Tasks of one pool go to any of its workers: where the first one's arguments are is best for most.
    const locality = this.demand.locality ?? nodeOfMostBytes(this.#queue.first?.keeps ?? []);
    const { head, jobId, peers } = this.#runtime;
    head
      .ask({
        requestLease: {
          leaseId: id,
          resources: { amounts: resources },
          runtimeEnv,
          jobId,
          labelSelector: labels,
          fallbackSelectors: fallbackLabels.map((each) => ({ labels: each })),
          locality: locality === null ? [] : [locality],
          schedulingStrategy: strategy,
          waitsIfInfeasible,
          priority: this.#askedPriority,
          isRetriable: this.#queue.first?.retriesLeft !== 0,
          ...(bundle ? { bundle } : {}),
        },
      })
      .then(async (reply) => {
        if (!reply.lease?.address) return;
        const link = await peers.link(reply.lease.address).catch(() => null);
        if (!this.#asked.delete(id)) return; // taken back while its grant was on the way
        if (link) this.#granted(id, link);
        else {
          head.tell({ returnLease: { leaseId: id, isWorkerBroken: true } });
          this.#dispatch();
        }
      })
      .catch((error: Error) => {
        if (!this.#asked.delete(id)) return; // we took the request back
        // No lease will ever come (infeasible, or the head refuses): nobody should wait for one.
        if (this.#leases.size === 0 && this.#asked.size === 0) this.#failQueue(error);
      });
  }

  /** Whoever waits for a worker that does not come should know why; once. */
  #tellWhy(): void {
    const [leaseId] = this.#asked;
    const { first } = this.#queue;
    if (this.#leases.size > 0 || leaseId === undefined || !first) {
      this.#late = null;
      return;
    }
    this.#runtime.head.ask({ explainLease: { leaseId } }).then(
      ({ waiting }) => {
        this.#late = null;
        if (!waiting?.reason || this.#hasTold) return;
        this.#hasTold = true;
        process.emitWarning(`task ${first.name} ${waiting.reason}`, { code: 'RAYLITE_WAITING' });
      },
      () => {}, // the head is away, which is another story
    );
  }

  /** The oldest are kept. */
  #cancelRequests(keptCount: number): void {
    for (const id of [...this.#asked].slice(keptCount)) {
      this.#runtime.head.tell({ returnLease: { leaseId: id } });
      this.#asked.delete(id);
    }
  }

  #granted(id: LeaseId, link: PeerLink): void {
    const lease: HeldLease = {
      id,
      link,
      flying: 0,
      idleTimer: null,
      isWanted: this.#isWanted,
      isOver: false,
      isForced: false,
      lastAnswerMs: performance.now(),
      end: null,
      answered: () => {
        lease.flying -= 1;
        this.#measured(lease);
        if (this.#queue.size > 0) this.#dispatch();
        else if (lease.flying === 0) this.#idle(lease);
      },
      broken: (invocation, reason) => {
        lease.flying -= 1;
        this.#lose(lease);
        this.#crashed(invocation, lease, reason.error?.message ?? reason.detail);
      },
      cancel: () => {}, // what a lease has is on its link
      force: (invocation, afterMs) => {
        setTimeout(() => {
          if (invocation.state.content === null) this.#lose(lease, true);
        }, afterMs).unref();
      },
    };
    this.#leases.add(lease);
    if (this.#asked.size === 0) this.#isWanted = false;
    link.stream.onClose(() => {
      if (lease.isOver) return;
      this.#lose(lease);
      this.#dispatch();
    });
    this.#dispatch();
    if (lease.flying === 0) this.#idle(lease);
  }

  #sendOn(lease: HeldLease, invocation: Invocation): void {
    if (lease.flying === 0) lease.lastAnswerMs = performance.now();
    lease.flying += 1;
    invocation.sendOn(lease.link, lease);
  }

  /** Time between two answers of a busy worker is the time of one task. */
  #measured(lease: HeldLease): void {
    const now = performance.now();
    const ms = now - lease.lastAnswerMs;
    lease.lastAnswerMs = now;
    this.#meanMs = Number.isFinite(this.#meanMs) ? 0.9 * this.#meanMs + 0.1 * ms : ms;
  }

  #crashed(invocation: Invocation, lease: HeldLease, detail: string): void {
    // A worker that was ended because of another task takes no retry of this one.
    if (this.#left) invocation.fail(this.#left);
    else if (invocation.isCancelled) invocation.fail(cancelled());
    else if (lease.isForced ? invocation.retriesLeft !== 0 : invocation.mayGoAgain()) this.#queue.push(invocation);
    else this.#fail(invocation, lease, detail).catch(() => {}); // news of the worker's end never rejects
    queueMicrotask(() => this.#dispatch());
  }

  /** Fails a call with how the worker of its lease ended. */
  async #fail(invocation: Invocation, lease: HeldLease, detail: string): Promise<void> {
    const end = await lease.end;
    if (end?.cause) {
      invocation.fail(errorOf(end.cause)); // its node says why
      return;
    }
    const { workerId, nodeId } = lease.link.peer;
    invocation.fail(
      new WorkerCrashedError({
        workerId: (workerId ?? '') as WorkerId,
        nodeId: (nodeId ?? '') as NodeId,
        detail: `${end?.detail ?? detail} while it ran ${invocation.name}; no retries are left`,
        exitCode: end?.exitCode ?? null,
        signal: end?.signal || null,
        lastLogLines: end?.lastLogLines ?? [],
      }),
    );
  }

  /** The stream of a lease is broken, or is to break: nothing more goes there, and the head is asked what became of its worker. */
  #lose(lease: HeldLease, force = false): void {
    if (lease.isOver) return;
    lease.isOver = true;
    lease.isForced = force;
    this.#leases.delete(lease);
    if (lease.idleTimer) clearTimeout(lease.idleTimer);
    const asked = this.#runtime.head.ask({ returnLease: { leaseId: lease.id, isWorkerBroken: true, force } });
    lease.end = Promise.race([
      asked.then(({ workerEnd }) => workerEnd ?? null).catch(() => null),
      sleep(NEWS_MS_MAX, null, { ref: false }),
    ]);
  }

  /** Others wait for workers: what this pool has now is given back as soon as it has nothing to do. */
  giveWay(): void {
    this.#isWanted = this.#asked.size > 0;
    for (const lease of this.#leases) {
      lease.isWanted = true;
      if (lease.idleTimer) clearTimeout(lease.idleTimer);
      lease.idleTimer = null;
      if (lease.flying === 0) this.#idle(lease);
    }
  }

  /** One timer for many short times without work: setting it costs as much as sending a task. */
  #idle(lease: HeldLease, msLeft?: number): void {
    const msMax = lease.isWanted ? WANTED_IDLE_MS_MAX : IDLE_MS_MAX;
    lease.idleTimer ??= setTimeout(() => {
      lease.idleTimer = null;
      if (lease.flying > 0 || lease.isOver) return;
      const left = msMax - (performance.now() - lease.lastAnswerMs);
      if (left > 1) {
        this.#idle(lease, left);
        return;
      }
      lease.isOver = true;
      this.#leases.delete(lease);
      this.#runtime.head.tell({ returnLease: { leaseId: lease.id } });
    }, msLeft ?? msMax).unref();
  }
}
