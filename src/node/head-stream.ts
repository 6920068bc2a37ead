// The agent's stream to the head: greets with all that runs here, and again after each loss, with growing pauses.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError } from '../common/index.js';
import { openGrpc } from '../protocol/grpc/index.js';
import { MessageChannel, wire } from '../protocol/index.js';

const BACKOFF_MS_FIRST = 100;
const BACKOFF_MS_MAX = 2_000;
const QUEUE_MAX = 10_000; // messages kept while the head is away; older output is dropped, never news of workers
/** How long the end of a worker or job is told again after a reconnect: what was last sent on a stream that broke may be lost. */
export const ENDS_MS_MAX = 120_000;

type News = Omit<wire.NodeToHead.$Properties, 'kind' | 'hello'>;
type Orders = (message: wire.HeadToNode) => void;

export class HeadStream {
  readonly #address: string;
  readonly #token: string;
  readonly #hello: () => wire.NodeHello.$Properties;
  readonly #orders: Orders;
  readonly #resumed: (welcome: wire.NodeWelcome) => void;
  readonly #stop = new AbortController();
  #channel: MessageChannel<wire.NodeToHead.$Properties, wire.HeadToNode> | null = null;
  #queue: News[] = [];
  /** Of workers and jobs, oldest first. */
  #ends: { readonly news: News; readonly atMs: number }[] = [];
  /** Settles when the agent must end: the head refused it. */
  readonly refused: Promise<ConnectionError>;
  #refuse!: (error: ConnectionError) => void;

  /** @param resumed a stream is there again: what was lost with the last one can be sent, before the news of ends is */
  constructor(
    address: string,
    token: string,
    hello: () => wire.NodeHello.$Properties,
    orders: Orders,
    resumed: (welcome: wire.NodeWelcome) => void,
  ) {
    this.#address = address;
    this.#token = token;
    this.#hello = hello;
    this.#orders = orders;
    this.#resumed = resumed;
    this.refused = new Promise((resolve) => {
      this.#refuse = resolve;
    });
  }

  get isConnected(): boolean {
    return this.#channel !== null && !this.#channel.isClosed;
  }

  /** Connects for the first time. Rejects with {@link ConnectionError}. */
  connect(): Promise<wire.NodeWelcome> {
    const channel = new MessageChannel<wire.NodeToHead.$Properties, wire.HeadToNode>(
      openGrpc('Head.Node', this.#address, this.#token),
      wire.NodeToHead,
      wire.HeadToNode,
    );
    return new Promise((resolve, reject) => {
      let isWelcome = false;
      channel.receive((message) => {
        if (isWelcome) this.#orders(message);
        else if (message.welcome?.error) {
          reject(new Refused({ address: this.#address, detail: message.welcome.error }));
          channel.close('refused');
        } else if (message.welcome) {
          isWelcome = true;
          this.#channel = channel;
          const queue = this.#queue;
          this.#queue = [];
          for (const news of queue) channel.send(news);
          this.#resumed(message.welcome as wire.NodeWelcome);
          for (const { news } of this.#ends) channel.send(news); // behind what was written before the end
          resolve(message.welcome as wire.NodeWelcome);
        }
      });
      channel.onClose(({ error, detail }) => {
        if (!isWelcome) reject(error ?? new ConnectionError({ address: this.#address, detail }));
        else if (!this.#stop.signal.aborted) {
          this.#channel = null;
          this.#reconnect().catch(() => {}); // ends only when stopped or refused
        }
      });
      channel.send({ hello: this.#greeting() });
    });
  }

  /** What has ended, and the head may not have heard so, counts as running: the news comes right after the greeting. */
  #greeting(): wire.NodeHello.$Properties {
    const hello = this.#hello();
    const jobs = this.#ends.flatMap(({ news }) => news.jobExited?.jobId ?? []);
    const workers = this.#ends.flatMap(({ news }) => {
      const workerId = news.workerExited?.workerId ?? news.workerFailed?.workerId;
      return workerId ? [{ address: { workerId } }] : [];
    });
    return {
      ...hello,
      workers: [...(hello.workers ?? []), ...workers],
      runningJobs: [...(hello.runningJobs ?? []), ...jobs],
    };
  }

  send(news: News): void {
    const { isConnected } = this;
    if (news.workerExited || news.workerFailed || news.jobExited) {
      const atMs = performance.now();
      if (isConnected) this.#ends = this.#ends.filter((end) => atMs - end.atMs < ENDS_MS_MAX);
      this.#ends.push({ news, atMs });
      if (!isConnected) return;
    }
    if (isConnected) {
      this.#channel?.send(news);
      return;
    }
    if (news.beat || news.jobOutput) return; // of output the node keeps what the head has not got
    if (this.#queue.length >= QUEUE_MAX) {
      const output = this.#queue.findIndex(({ driverLog }) => driverLog);
      if (output >= 0) this.#queue.splice(output, 1);
    }
    this.#queue.push(news);
  }

  close(): void {
    this.#stop.abort();
    this.#channel?.send({ bye: {} });
    this.#channel?.close('the node leaves');
  }

  async #reconnect(): Promise<void> {
    for (let waitMs = BACKOFF_MS_FIRST; ; waitMs = Math.min(2 * waitMs, BACKOFF_MS_MAX)) {
      await sleep(waitMs, undefined, { signal: this.#stop.signal });
      try {
        await this.connect();
        return;
      } catch (error) {
        if (error instanceof Refused) {
          this.#refuse(error);
          return;
        }
      }
    }
  }
}

class Refused extends ConnectionError {}
