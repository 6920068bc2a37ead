// The conversation with the head: requests that survive a reconnect, and pushes. Connects when first needed. Calls and
// objects never need it.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError } from '../common/index.js';
import { type Channel, errorOf, MessageChannel, wire } from '../protocol/index.js';
import type { Awake } from './awake.js';
import { siteOf, withSite } from './call-site.js';

const BACKOFF_MS_FIRST = 100;
const BACKOFF_MS_MAX = 2_000;

export interface HeadPushes {
  readonly actor: (info: wire.ActorInfo) => void;
  readonly logLines: (lines: wire.LogLines) => void;
  readonly leasesWanted: () => void;
  readonly nodesDraining: (nodes: wire.NodesDraining) => void;
}

export type HeadRequest = Omit<wire.ClientToHead.$Properties, 'requestId' | 'hello' | 'kind'>;

interface Waiter {
  readonly request: wire.ClientToHead.$Properties;
  readonly resolve: (reply: wire.HeadToClient) => void;
  readonly reject: (error: Error) => void;
}

export class HeadLink {
  readonly #address: string;
  readonly #open: () => Promise<Channel>;
  readonly #hello: () => wire.ClientHello.$Properties;
  readonly #pushes: HeadPushes;
  readonly #awake: Awake;
  readonly #isMember: boolean;
  readonly #waiters = new Map<number, Waiter>();
  readonly #watched = new Set<string>();
  readonly #stop = new AbortController();
  #nextId = 1;
  #isLoose = false;
  #channel: MessageChannel<wire.ClientToHead.$Properties, wire.HeadToClient> | null = null;
  #welcomed: Promise<wire.ClientWelcome> | null = null;

  /**
   * @param open a new stream to the head at `address`
   * @param isMember this process belongs to the cluster already: a first connection that fails is tried again as any other
   */
  constructor(
    address: string,
    open: () => Promise<Channel>,
    hello: () => wire.ClientHello.$Properties,
    pushes: HeadPushes,
    awake: Awake,
    isMember: boolean,
  ) {
    this.#isMember = isMember;
    this.#awake = awake;
    this.#address = address;
    this.#open = open;
    this.#hello = hello;
    this.#pushes = pushes;
  }

  /** Connects if this has not happened yet. Rejects with {@link ConnectionError} when nothing answers or the head refuses. */
  async welcome(): Promise<wire.ClientWelcome> {
    const site = siteOf(this.welcome);
    this.#welcomed ??= this.#isMember ? this.#persist() : this.#connect();
    try {
      return await this.#welcomed;
    } catch (error) {
      throw error instanceof Error ? withSite(error, site) : error;
    }
  }

  /**
   * Sends a request, again after each reconnect, until it is answered. Rejects with the head's failure, whose stack says
   * where this process asked: the head's own says nothing to a user.
   */
  request(request: HeadRequest): Promise<wire.HeadToClient> {
    return this.#awake.during(this.ask(request));
  }

  /** As {@link request}, for what only this library waits for: the process may end before the answer. */
  async ask(request: HeadRequest): Promise<wire.HeadToClient> {
    await this.welcome();
    if (this.#stop.signal.aborted) throw this.left();
    const requestId = this.#nextId++;
    const site = siteOf(this.ask);
    return new Promise((resolve, reject) => {
      const waiter = {
        request: { ...request, requestId },
        resolve,
        reject: (error: Error): void => reject(withSite(error, site)),
      };
      this.#waiters.set(requestId, waiter);
      this.#channel?.send(waiter.request);
    });
  }

  /** A request whose answer nobody needs. */
  tell(request: HeadRequest): void {
    this.ask(request).catch(() => {}); // the head being gone is known to whoever waits for something
  }

  /** Asks for pushes about an actor, now and after each reconnect; resolves to what is known now. */
  async watch(actorId: string): Promise<wire.HeadToClient> {
    this.#watched.add(actorId);
    return this.ask({ watchActor: { actorId } });
  }
  unwatch(actorId: string): void {
    this.#watched.delete(actorId);
  }

  /** From now on this link does not keep the process from ending. */
  unref(): void {
    this.#isLoose = true;
    this.#channel?.unref();
  }

  close(): void {
    this.#stop.abort();
    this.#channel?.send({ bye: {} });
    this.#channel?.close('the client is done');
    const error = this.left();
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }

  async #connect(): Promise<wire.ClientWelcome> {
    return this.#greet(await this.#open());
  }

  #greet(raw: Channel): Promise<wire.ClientWelcome> {
    const channel = new MessageChannel<wire.ClientToHead.$Properties, wire.HeadToClient>(
      raw,
      wire.ClientToHead,
      wire.HeadToClient,
    );
    if (this.#isLoose) channel.unref();
    return new Promise((resolve, reject) => {
      let isWelcome = false;
      channel.receive((message) => {
        if (isWelcome) this.#received(message);
        else if (message.welcome) {
          isWelcome = true;
          this.#channel = channel;
          for (const actorId of this.#watched) this.tell({ watchActor: { actorId } });
          for (const { request } of this.#waiters.values()) channel.send(request);
          resolve(message.welcome as wire.ClientWelcome);
        } else if (message.failure) {
          reject(errorOf(message.failure));
          channel.close('refused');
        }
      });
      channel.onClose(({ error, detail }) => {
        if (!isWelcome) reject(error ?? this.#gone(detail));
        else if (!this.#stop.signal.aborted) this.#reconnect();
      });
      channel.send({ hello: this.#hello() });
    });
  }

  #reconnect(): void {
    this.#channel = null;
    this.#persist().catch((error: unknown) => {
      for (const waiter of this.#waiters.values()) waiter.reject(error as Error);
      this.#waiters.clear();
    });
  }
  /** Connects, however often that has to be tried. Rejects when the head refuses, or this process leaves. */
  async #persist(): Promise<wire.ClientWelcome> {
    for (let waitMs = BACKOFF_MS_FIRST; ; waitMs = Math.min(waitMs * 2, BACKOFF_MS_MAX)) {
      try {
        return await this.#connect();
      } catch (error) {
        if (error instanceof ConnectionError && /token|protocol/.test(error.detail)) throw error;
      }
      await sleep(waitMs, undefined, { signal: this.#stop.signal, ref: false });
    }
  }

  #received(message: wire.HeadToClient): void {
    if (message.requestId !== 0) {
      const waiter = this.#waiters.get(message.requestId);
      this.#waiters.delete(message.requestId);
      if (message.failure) waiter?.reject(errorOf(message.failure));
      else waiter?.resolve(message);
    } else if (message.actor) this.#pushes.actor(message.actor as wire.ActorInfo);
    else if (message.logLines) this.#pushes.logLines(message.logLines as wire.LogLines);
    else if (message.leasesWanted) this.#pushes.leasesWanted();
    else if (message.nodesDraining) this.#pushes.nodesDraining(message.nodesDraining as wire.NodesDraining);
  }

  /** The error of what waits for the cluster once this process has left it. */
  left(): ConnectionError {
    return this.#gone('the connection was closed by this process');
  }
  #gone(detail: string): ConnectionError {
    return new ConnectionError({ address: this.#address, detail });
  }
}

/** Opens streams to the head over gRPC. */
export const headOverGrpc = (address: string, token: string) => async (): Promise<Channel> => {
  const { openGrpc } = await import('../protocol/grpc/index.js');
  return openGrpc('Head.Client', address, token);
};
