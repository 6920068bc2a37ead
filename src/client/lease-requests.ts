// The workers that a pool of tasks asks the head for: as many as its queue wants, taken back when they were not needed for a
// while; and what the user is told when none comes.
import { type LeaseId, newLeaseId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import type { Invocation } from './invocation.js';
import { nodeOfMostBytes } from './locality.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';

/** How long the first task of a pool waits for a worker before the user is told what for. */
const WAIT_MS_UNTOLD = 3_000;
/**
 * A request that is not needed any more is taken back after so long, not at once: work often comes in bursts, and a worker
 * that was on its way to this one would never come to the next.
 */
const UNNEEDED_MS_MAX = 100;

/** What all tasks of a pool ask for. */
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

/** Who asks. */
export interface LeaseSeeker {
  readonly demand: TaskDemand;
  /** The task that is next. */
  first(): Invocation | undefined;
  hasLeases(): boolean;
  granted(id: LeaseId, link: PeerLink): void;
  /** What is wanted may have changed: it says so again by {@link LeaseRequests.want}. */
  reconsider(): void;
  /** No lease will ever come, and none is held. */
  refused(error: Error): void;
}

export class LeaseRequests {
  readonly #runtime: Runtime;
  readonly #seeker: LeaseSeeker;
  readonly #asked = new Set<LeaseId>();
  #priority = 0;
  /** The most leases that were wanted since the timer began. */
  #wantedLately = 0;
  #unneeded: NodeJS.Timeout | null = null;
  #late: NodeJS.Timeout | null = null; // until the first lease comes
  #hasTold = false;

  constructor(runtime: Runtime, seeker: LeaseSeeker) {
    this.#runtime = runtime;
    this.#seeker = seeker;
  }

  /** How many are on their way. */
  get count(): number {
    return this.#asked.size;
  }

  /** So many more leases are wanted now, for tasks of `priority`. */
  want(count: number, priority: number): void {
    // Requests of a lower priority would stand behind others that this one may pass.
    if (priority > this.#priority) this.#cancel(0);
    if (this.#asked.size === 0) this.#priority = priority;
    if (count > this.#wantedLately) this.#wantedLately = count;
    while (this.#asked.size < count) this.#ask();
    if (this.#asked.size > count) this.#unneeded ??= setTimeout(this.#takeBack, UNNEEDED_MS_MAX).unref();
  }

  /** Takes back the requests that were not needed for a while. */
  readonly #takeBack = (): void => {
    this.#unneeded = null;
    this.#cancel(this.#wantedLately);
    this.#wantedLately = 0;
    this.#seeker.reconsider();
  };
  /** The oldest are kept. */
  #cancel(keptCount: number): void {
    for (const id of [...this.#asked].slice(keptCount)) {
      this.#runtime.head.tell({ returnLease: { leaseId: id } });
      this.#asked.delete(id);
    }
  }

  #ask(): void {
    const id = newLeaseId();
    this.#asked.add(id);
    if (!this.#seeker.hasLeases() && !this.#hasTold)
      this.#late ??= setTimeout(() => this.#tellWhy(), WAIT_MS_UNTOLD).unref();
    const { head, peers } = this.#runtime;
    head
      .ask({ requestLease: this.#request(id) })
      .then(async (reply) => {
        if (!reply.lease?.address) return;
        const link = await peers.link(reply.lease.address).catch(() => null);
        if (!this.#asked.delete(id)) return; // taken back while its grant was on the way
        if (link) this.#seeker.granted(id, link);
        else {
          head.tell({ returnLease: { leaseId: id, isWorkerBroken: true } });
          this.#seeker.reconsider();
        }
      })
      .catch((error: Error) => {
        if (!this.#asked.delete(id)) return; // we took the request back
        // Infeasible, or the head refuses: nobody should wait for one.
        if (!this.#seeker.hasLeases() && this.#asked.size === 0) this.#seeker.refused(error);
      });
  }

  #request(leaseId: LeaseId): wire.RequestLease.$Properties {
    const { demand } = this.#seeker;
    const first = this.#seeker.first();
    // Tasks of one pool go to any of its workers: where the first one's arguments are is best for most.
    const locality = demand.locality ?? nodeOfMostBytes(first?.keeps ?? []);
    return {
      leaseId,
      resources: { amounts: demand.resources },
      runtimeEnv: demand.runtimeEnv,
      jobId: this.#runtime.jobId,
      labelSelector: demand.labels,
      fallbackSelectors: demand.fallbackLabels.map((labels) => ({ labels })),
      locality: locality === null ? [] : [locality],
      schedulingStrategy: demand.strategy,
      waitsIfInfeasible: demand.waitsIfInfeasible,
      priority: this.#priority,
      isRetriable: first?.shape.retries !== 0, // for want of memory it is ended out of a budget of its own
      ...(demand.bundle ? { bundle: demand.bundle } : {}),
    };
  }

  /** Whoever waits for a worker that does not come should know why; once. */
  #tellWhy(): void {
    const [leaseId] = this.#asked;
    const first = this.#seeker.first();
    if (this.#seeker.hasLeases() || leaseId === undefined || !first) {
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
}
