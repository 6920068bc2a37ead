// A queue that any process of the cluster may put into and take from: an actor, and this small face of it.
import { ConfigError, QueueEmptyError, QueueFullError } from '../common/index.js';
import { actor } from './actor.js';
import { type ActorHandle, kill, stop } from './actor-handle.js';
import { type ActorOptions, checkTimeout } from './options.js';
import { QueueActor, type QueueAnswer } from './queue-actor.js';

/** How long a call on a queue waits; 0: not at all. Default: as long as it takes. */
export interface QueueWait {
  readonly timeoutMs?: number;
}

const CONCURRENCY = 1000; // calls that may wait in the actor at a time, as Ray's async actors

/**
 * A first-in, first-out queue. Give `queue.handle` to other processes and open it there with `Queue.of(handle)`; items are
 * copied as values are. As Ray's `ray.util.queue.Queue`.
 *
 *     const queue = await Queue.create<string>({ sizeMax: 100 });
 *     await queue.put('a');          // waits for room
 *     const item = await queue.get({ timeoutMs: 1000 }); // QueueEmptyError after a second
 */
export class Queue<Item> {
  /** Travels; see {@link Queue.of}. */
  readonly handle: ActorHandle<QueueActor>;

  private constructor(handle: ActorHandle<QueueActor>) {
    this.handle = handle;
  }

  /** Starts a queue that holds at most `sizeMax` items (default 0: any number); `actor` are options of its actor. */
  static async create<Item>(
    options: { readonly sizeMax?: number; readonly actor?: Omit<ActorOptions<QueueActor>, 'methods'> } = {},
  ): Promise<Queue<Item>> {
    const { sizeMax = 0 } = options;
    if (!Number.isInteger(sizeMax) || sizeMax < 0)
      throw new ConfigError('sizeMax', 'an integer of at least 0', sizeMax);
    const handle = await actor(QueueActor, { maxConcurrency: CONCURRENCY, ...options.actor }).create(sizeMax);
    return new Queue<Item>(handle);
  }
  /** The queue of a handle that came from another process. */
  static of<Item>(handle: ActorHandle<QueueActor>): Queue<Item> {
    return new Queue<Item>(handle);
  }

  /** Adds an item at the end, once there is room. Rejects with QueueFullError when there is none in time. */
  async put(item: Item, options: QueueWait = {}): Promise<void> {
    await this.putBatch([item], options);
  }
  /** Adds all items or none. */
  async putBatch(items: readonly Item[], { timeoutMs }: QueueWait = {}): Promise<void> {
    checkTimeout(timeoutMs);
    const answer = await this.handle.put(items, timeoutMs ?? null);
    if (answer.kind === 'full') throw new QueueFullError({ size: answer.size, itemCount: items.length });
  }
  /** Takes the first item, once there is one. Rejects with QueueEmptyError when there is none in time. */
  async get(options: QueueWait = {}): Promise<Item> {
    const [item] = await this.getBatch(1, options);
    return item as Item;
  }
  /** Takes `count` items or none. */
  async getBatch(count: number, { timeoutMs }: QueueWait = {}): Promise<Item[]> {
    if (!Number.isInteger(count) || count < 1) throw new ConfigError('count', 'a positive integer', count);
    checkTimeout(timeoutMs);
    const answer: QueueAnswer = await this.handle.get(count, timeoutMs ?? null);
    if (answer.kind === 'done') return [...answer.items] as Item[];
    throw new QueueEmptyError({ size: answer.size, itemCount: count });
  }

  /** How many items it holds now. */
  async size(): Promise<number> {
    return await this.handle.size();
  }

  /** Ends its actor: what it holds is gone. With `graceMs` calls that wait have so long. */
  async shutdown(options: { readonly graceMs?: number } = {}): Promise<void> {
    await (options.graceMs ? stop(this.handle, { graceMs: options.graceMs }) : kill(this.handle));
  }
}
