// A worker that this process has for a while: the tasks in flight on it, how it is given back when it has none, and what became
// of it when its stream broke.
//
//   held ─giveBack (idle)→ over    held ─lose (stream broke, or forced)→ over
import { setTimeout as sleep } from 'node:timers/promises';
import { type LeaseId, type NodeId, WorkerCrashedError, type WorkerId } from '../common/index.js';
import { type CloseReason, errorOf, type wire } from '../protocol/index.js';
import type { HeadLink } from './head-link.js';
import type { Carrier, Invocation } from './invocation.js';
import type { PeerLink } from './peer-link.js';

const IDLE_MS_MAX = 1_000;
/** The same while others wait for workers: no longer than between two tasks that follow each other. */
const WANTED_IDLE_MS_MAX = 2;
/** How long the head is waited for to say how a worker ended. */
const NEWS_MS_MAX = 10_000;

/** Who holds the lease. */
export interface LeaseHolder {
  /** A task was answered `ms` after the one before, or after it was sent. */
  answered(lease: Lease, ms: number): void;
  /** A task was in flight when the worker was lost; called after `over`. */
  crashed(invocation: Invocation, lease: Lease, detail: string): void;
  /** Nothing more goes there. */
  over(lease: Lease): void;
}

export class Lease implements Carrier {
  readonly id: LeaseId;
  readonly #link: PeerLink;
  readonly #head: HeadLink;
  readonly #holder: LeaseHolder;
  #inFlight = 0;
  #idleTimer: NodeJS.Timeout | null = null;
  /** Others wait for what it takes. */
  #isWanted: boolean;
  #isOver = false;
  #isLeaving = false;
  #isForced = false;
  #lastAnswerMs = performance.now();
  /** How its worker ended; asked for when its stream broke. */
  #end: Promise<wire.WorkerEnd.$Properties | null> = Promise.resolve(null);

  constructor(id: LeaseId, link: PeerLink, head: HeadLink, holder: LeaseHolder, isWanted: boolean) {
    this.id = id;
    this.#link = link;
    this.#head = head;
    this.#holder = holder;
    this.#isWanted = isWanted;
  }

  get inFlight(): number {
    return this.#inFlight;
  }
  get nodeId(): NodeId {
    return (this.#link.peer.nodeId ?? '') as NodeId;
  }
  /** Whether tasks may be sent there. */
  get takesMore(): boolean {
    return !this.#isOver && !this.#isLeaving;
  }
  get isOver(): boolean {
    return this.#isOver;
  }
  /** How its worker ended, once it is lost; null: nobody knows. Never rejects. */
  get end(): Promise<wire.WorkerEnd.$Properties | null> {
    return this.#end;
  }
  /** Its worker was ended because of one of its tasks. */
  get isForced(): boolean {
    return this.#isForced;
  }

  send(invocation: Invocation): void {
    if (this.#inFlight === 0) this.#lastAnswerMs = performance.now();
    this.#inFlight += 1;
    invocation.sendOn(this.#link, this);
  }

  answered(): void {
    this.#inFlight -= 1;
    const now = performance.now();
    const ms = now - this.#lastAnswerMs;
    this.#lastAnswerMs = now;
    this.#holder.answered(this, ms);
  }
  broken(invocation: Invocation, reason: CloseReason): void {
    this.#inFlight -= 1;
    this.lose();
    this.#holder.crashed(invocation, this, reason.error?.message ?? reason.detail);
  }
  cancel(): void {} // what a lease has is on its link
  force(invocation: Invocation, afterMs: number): void {
    setTimeout(() => {
      if (invocation.state.content === null) this.lose(true);
    }, afterMs).unref();
  }

  /** Others wait for workers: it is given back as soon as it has nothing to do. */
  giveWay(): void {
    this.#isWanted = true;
    if (this.#idleTimer) clearTimeout(this.#idleTimer);
    this.#idleTimer = null;
    if (this.#inFlight === 0) this.giveBackWhenIdle();
  }

  /** Its node is to leave: it is given back once it has done what it was sent. */
  leave(): void {
    this.#isLeaving = true;
    this.giveWay();
  }

  /** Gives it back when it had nothing to do for a while. One timer for many short times without work: setting it costs as much as sending a task. */
  giveBackWhenIdle(msLeft?: number): void {
    const msMax = this.#isWanted ? WANTED_IDLE_MS_MAX : IDLE_MS_MAX;
    this.#idleTimer ??= setTimeout(() => {
      this.#idleTimer = null;
      if (this.#inFlight > 0 || this.#isOver) return;
      const left = msMax - (performance.now() - this.#lastAnswerMs);
      if (left > 1) {
        this.giveBackWhenIdle(left);
        return;
      }
      this.#isOver = true;
      this.#holder.over(this);
      this.#head.tell({ returnLease: { leaseId: this.id } });
    }, msLeft ?? msMax).unref();
  }

  /** Its stream is broken, or is to break (`force`): the head is asked what became of its worker. */
  lose(force = false): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#isForced = force;
    this.#holder.over(this);
    if (this.#idleTimer) clearTimeout(this.#idleTimer);
    const asked = this.#head.ask({ returnLease: { leaseId: this.id, isWorkerBroken: true, force } });
    this.#end = Promise.race([
      asked.then(({ workerEnd }) => workerEnd ?? null).catch(() => null),
      sleep(NEWS_MS_MAX, null, { ref: false }),
    ]);
  }

  /** Why a task that was lost with the worker failed: as its node says, else that the worker ended (`detail`: how that was seen here). */
  async failureOf(invocation: Invocation, detail: string): Promise<Error> {
    const end = await this.#end;
    if (end?.cause) return errorOf(end.cause);
    const { workerId, nodeId } = this.#link.peer;
    return new WorkerCrashedError({
      workerId: (workerId ?? '') as WorkerId,
      nodeId: (nodeId ?? '') as NodeId,
      detail: `${end?.detail ?? detail} while it ran ${invocation.name}; no retries are left`,
      exitCode: end?.exitCode ?? null,
      signal: end?.signal || null,
      lastLogLines: end?.lastLogLines ?? [],
    });
  }
}
