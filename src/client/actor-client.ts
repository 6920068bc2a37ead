// One actor as this process sees it: where it lives now, the calls that wait for it, what became of those in flight.
//
//   unknown ─info ALIVE→ alive ─stream broken→ unknown      unknown | alive ─info DEAD→ dead
import { ActorDiedError, type ActorId, ActorUnavailableError, type ObjectId } from '../common/index.js';
import { errorOf, type wire } from '../protocol/index.js';
import { siteOf, withSite } from './call-site.js';
import { cancelled, type Invocation, type Sender } from './invocation.js';
import type { PeerLink } from './peer-link.js';
import type { Runtime } from './runtime.js';

/** How long calls that were in flight when the stream broke wait for the head to say what became of the actor. */
const NEWS_MS_MAX = 10_000;
/** How long such news take at most, as a rule. */
const NEWS_MS_USUAL = 500;

/** How long a creator waits for a place before it is told what its actor waits for. */
const WAIT_MS_UNTOLD = 3_000;

export class ActorClient implements Sender {
  readonly canForce = false;
  readonly runAgain = null;
  readonly actorId: ActorId;
  readonly #runtime: Runtime;
  readonly #waiting: Invocation[] = [];
  readonly #kept: unknown[] = [];
  #limbo: Invocation[] = []; // were in flight on a broken stream
  #limboTimer: NodeJS.Timeout | null = null;
  #info: wire.ActorInfo.$Properties = {};
  #link: PeerLink | null = null;
  #linkIncarnation = 0;
  #brokenIncarnation = 0;
  #pendingCount = 0;
  readonly #sent: (() => void)[] = [];
  #isWatching = false;
  #isConnecting = false;
  #left: Error | null = null; // once this process is no part of the cluster any more
  readonly #settled: { resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(runtime: Runtime, actorId: ActorId, className: string) {
    this.#runtime = runtime;
    this.actorId = actorId;
    this.#info = { className };
  }

  get className(): string {
    return this.#info.className || 'actor';
  }

  send(invocation: Invocation): void {
    const link = this.#link;
    if (this.#left) invocation.fail(this.#left);
    else if (this.#info.state === 'DEAD') invocation.fail(this.#death());
    else if (link && !link.stream.isClosed && this.#waiting.length === 0) invocation.sendOn(link, this);
    else {
      this.#waiting.push(invocation);
      this.#locate();
    }
  }

  /** Calls of this process that were counted and are not answered yet. */
  get pendingCount(): number {
    return this.#pendingCount;
  }
  count({ state }: Invocation): void {
    this.#pendingCount += 1;
    state.whenSettled(() => {
      this.#pendingCount -= 1;
    });
  }

  /** A call that waits here is taken back. */
  cancel(invocation: Invocation): void {
    const at = this.#waiting.indexOf(invocation);
    if (at >= 0) this.#waiting.splice(at, 1);
    invocation.fail(cancelled());
  }
  answered(): void {} // an actor's client counts nothing
  force(): void {}
  broken(invocation: Invocation): void {
    if (this.#left) invocation.fail(this.#left);
    else this.#limbo.push(invocation);
  }

  /** Resolves when the actor is alive; rejects with ActorDiedError when it will never be. */
  ready(): Promise<void> {
    const site = siteOf(this.ready);
    const ready = new Promise<void>((resolve, reject) => {
      const failed = (error: Error): void => reject(withSite(error, site));
      if (this.#info.state === 'ALIVE') resolve();
      else if (this.#info.state === 'DEAD') failed(this.#death());
      else {
        const late = setTimeout(() => this.#tellWhy(), WAIT_MS_UNTOLD).unref();
        this.#settled.push({
          resolve: () => {
            clearTimeout(late);
            resolve();
          },
          reject: (error) => {
            clearTimeout(late);
            failed(error);
          },
        });
        this.#watch();
      }
    });
    return this.#runtime.awake.during(ready);
  }

  /** Whoever waits for an actor that has no place should know what it waits for. */
  #tellWhy(): void {
    this.#runtime.head.watch(this.actorId).then(
      ({ actor: info }) => {
        if (!info) return;
        if (info.pendingReason && info.state !== 'ALIVE' && info.state !== 'DEAD')
          process.emitWarning(`actor ${this.className} ${info.pendingReason}`, { code: 'RAYLITE_WAITING' });
        this.inform(info);
      },
      () => {}, // the head is away, which is another story
    );
  }

  /** The actor as the head last told of it. */
  get info(): wire.ActorInfo.$Properties {
    return this.#info;
  }

  /** News from the head. */
  inform(info: wire.ActorInfo.$Properties): void {
    const isOld = (info.incarnation ?? 0) < (this.#info.incarnation ?? 0) || this.#info.state === 'DEAD';
    if (isOld) return;
    this.#info = info;
    if (info.state === 'ALIVE') {
      for (const { resolve } of this.#settled.splice(0)) resolve();
      if ((info.incarnation ?? 0) > this.#brokenIncarnation) this.#resolveLimbo('it was restarted');
      if (this.#waiting.length > 0) this.#connect();
    } else if (info.state === 'DEAD') {
      this.#stopTimer();
      this.#kept.length = 0;
      this.#failAll(this.#death());
      this.#runtime.head.unwatch(this.actorId);
    } else if (info.state === 'RESTARTING') this.#resolveLimbo('its process ended and it is being restarted');
  }

  /** Resolves when the actor's process has the calls that were made until now (or they have failed). */
  async arrived(): Promise<void> {
    if (this.#waiting.length > 0) await new Promise<void>((resolve) => this.#sent.push(resolve));
    const link = this.#link;
    // Any question is answered behind the calls that were sent before it.
    if (link) await new Promise<void>((resolve) => link.resolve('' as ObjectId, {}, () => resolve()));
  }
  #noneWaits(): void {
    for (const resolve of this.#sent.splice(0)) resolve();
  }

  /** Holds on to what a restart would need, until the actor is dead. */
  keep(things: readonly unknown[]): void {
    this.#kept.push(...things);
  }

  /** This process leaves the cluster: all that waits for the actor, now or later, fails with `left`. */
  close(left: Error): void {
    this.#left = left;
    this.#link = null; // its end is no news any more
    this.#stopTimer();
    this.#failAll(left);
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#settled.splice(0)) reject(error);
    for (const invocation of [...this.#limbo.splice(0), ...this.#waiting.splice(0)]) invocation.fail(error);
    this.#noneWaits();
  }

  /** The stream is gone; the calls that were in flight on it are in limbo. The news may have been faster. */
  #broke(link: PeerLink): void {
    if (this.#link !== link) return;
    this.#link = null;
    this.#brokenIncarnation = this.#linkIncarnation;
    if (this.#info.state === 'DEAD') {
      const death = this.#death();
      for (const invocation of this.#limbo.splice(0)) invocation.fail(death);
    } else if ((this.#info.incarnation ?? 0) > this.#linkIncarnation) this.#resolveLimbo('its process ended');
    else {
      this.#limboTimer ??= setTimeout(() => this.#giveUp(), NEWS_MS_MAX).unref(); // a driver that is done need not wait
      this.#watch();
      this.#lookLater();
    }
  }
  #lookLater(): void {
    setTimeout(() => this.#lookThere(), NEWS_MS_USUAL).unref();
  }

  /** No news so far: perhaps only the connection broke. A process that answers has the actor still. */
  #lookThere(): void {
    const { address, incarnation = 0 } = this.#info;
    if (this.#limboTimer === null || this.#info.state !== 'ALIVE' || incarnation !== this.#brokenIncarnation) return;
    this.#runtime.peers.link(address ?? {}).then(
      (link) =>
        link.resolve('' as ObjectId, {}, ({ failure }) => {
          if (this.#brokenIncarnation !== incarnation) return;
          if (failure?.code === 'RAYLITE_OWNER_DIED') {
            this.#lookLater(); // this stream broke too
            return;
          }
          this.#brokenIncarnation = 0;
          this.#resolveLimbo('the connection to it broke');
        }),
      () => this.#lookLater(), // if it is gone, the head will say what comes next
    );
  }

  /** The calls that were in flight: they may have run, so that only those with retries go again. */
  #resolveLimbo(detail: string): void {
    this.#stopTimer();
    const limbo = this.#limbo;
    this.#limbo = [];
    const again: Invocation[] = [];
    for (const invocation of limbo) {
      if (invocation.isCancelled) invocation.fail(cancelled());
      else if (invocation.mayGoAgain()) again.push(invocation);
      else invocation.fail(new ActorUnavailableError({ actorId: this.actorId, detail }));
    }
    this.#waiting.unshift(...again);
    if (this.#waiting.length > 0) this.#locate();
  }

  #locate(): void {
    if (this.#info.state === 'ALIVE' && (this.#info.incarnation ?? 0) > this.#brokenIncarnation) this.#connect();
    else this.#watch();
  }

  #watch(): void {
    if (this.#isWatching && this.#info.state) return;
    this.#isWatching = true;
    this.#runtime.head.watch(this.actorId).then(
      (reply) => {
        if (reply.actor) this.inform(reply.actor);
      },
      (error: Error) => this.#failAll(error),
    );
  }

  #connect(): void {
    if (this.#isConnecting || !this.#info.address) return;
    this.#isConnecting = true;
    const incarnation = this.#info.incarnation ?? 0;
    this.#runtime.peers.link(this.#info.address).then(
      (link) => {
        this.#isConnecting = false;
        this.#link = link;
        this.#linkIncarnation = incarnation;
        link.stream.onClose(() => this.#broke(link));
        for (const invocation of this.#waiting.splice(0)) invocation.sendOn(link, this);
        this.#noneWaits();
      },
      () => {
        // Nothing answers there: the process is gone and the head will say what comes next.
        this.#isConnecting = false;
        this.#brokenIncarnation = incarnation;
        this.#limboTimer ??= setTimeout(() => this.#giveUp(), NEWS_MS_MAX).unref(); // a driver that is done need not wait
        this.#watch();
        this.#lookLater();
      },
    );
  }

  /** The head has no news either (it may be away): nobody should wait for ever. */
  #giveUp(): void {
    const detail = 'its process cannot be reached';
    this.#resolveLimbo(detail);
    for (const invocation of this.#waiting.splice(0))
      invocation.fail(new ActorUnavailableError({ actorId: this.actorId, detail }));
    this.#noneWaits();
  }

  #stopTimer(): void {
    if (this.#limboTimer) clearTimeout(this.#limboTimer);
    this.#limboTimer = null;
  }

  #death(): Error {
    const { death } = this.#info;
    return death
      ? errorOf(death)
      : new ActorDiedError({ actorId: this.actorId, className: this.className, detail: 'it ended' });
  }
}
