// The agent's Unix socket: its conversation (node.proto) with the workers and drivers of this machine.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { ConnectionError, type ObjectId, PROTOCOL_VERSION, type WorkerId } from '../common/index.js';
import type { Log } from '../observe/index.js';
import { failureOf, isSameToken, MessageChannel, SocketChannel, wire } from '../protocol/index.js';
import type { ObjectIndex } from './object-index.js';
import { ProcessSurvey } from './process-survey.js';
import type { WorkerPool, WorkerSocket } from './worker-pool.js';

/** Bits in the arena's table of pins (native/store/pins.h). */
const READERS_MAX = 384;
/** How long processes have to collect; one that computes does so later. */
const COLLECT_MS_MAX = 500;

/** One attached process. */
class Process implements WorkerSocket {
  readonly channel: MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>;
  /** Its id as an owner of objects: the one it attached with, then the one it was assigned. */
  workerId: WorkerId;
  readonly spawnId: WorkerId;
  /** Its bit in the arena's table of pins; null when none was left. */
  readonly reader: number | null;
  readonly pid: number;
  readonly isDriver: boolean;
  /** Called when it has collected, or is gone. */
  collecting: (() => void)[] = [];

  constructor(
    channel: MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>,
    attach: wire.Attach.$Properties,
    reader: number | null,
  ) {
    const spawnId = (attach.workerId ?? '') as WorkerId;
    this.pid = attach.pid ?? 0;
    this.isDriver = attach.isDriver ?? false;
    this.reader = reader;
    this.channel = channel;
    this.spawnId = spawnId;
    this.workerId = spawnId;
  }
  collected(): void {
    for (const heard of this.collecting.splice(0)) heard();
  }
  assign(assignment: wire.StartWorker.$Properties): void {
    this.workerId = (assignment.workerId ?? '') as WorkerId;
    this.channel.send({ assign: assignment });
  }
  exit(reason: string, graceful: boolean): void {
    this.channel.send({ exit: { reason, graceful } });
  }
}

export class LocalServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #path: string;
  readonly #token: string;
  readonly #attached: () => wire.Attached.$Properties;
  readonly #index: ObjectIndex;
  readonly #pool: () => WorkerPool;
  readonly #log: Log;
  readonly #activity: (spawnId: WorkerId, activity: wire.Activity.$Properties) => void;
  readonly #processes = new Set<Process>();
  readonly #survey = new ProcessSurvey<Process>((process, id) => process.channel.send({ tellHeld: { id } }));
  readonly #freeReaders = Array.from({ length: READERS_MAX }, (_, index) => READERS_MAX - 1 - index);

  constructor(options: {
    readonly path: string;
    readonly token: string;
    readonly attached: () => wire.Attached.$Properties;
    readonly index: ObjectIndex;
    readonly pool: () => WorkerPool;
    readonly log: Log;
    /** Hears what a worker has run. */
    readonly activity: (spawnId: WorkerId, activity: wire.Activity.$Properties) => void;
  }) {
    this.#path = options.path;
    this.#token = options.token;
    this.#attached = options.attached;
    this.#index = options.index;
    this.#pool = options.pool;
    this.#log = options.log;
    this.#activity = options.activity;
    this.#server = createServer((socket) => {
      this.#accept(
        new MessageChannel(
          new SocketChannel(socket, 'a process of this machine'),
          wire.AgentToProcess,
          wire.ProcessToAgent,
        ),
      );
    });
  }

  async listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#path, () => {
        chmodSync(this.#path, 0o600);
        resolve();
      });
    });
  }

  /** Whether that process is one of this node. */
  has(workerId: WorkerId): boolean {
    return [...this.#processes].some((process) => process.workerId === workerId);
  }

  /** Tells a process that a region of its slab may be used again. */
  readonly vacated = (holder: object, vacated: wire.Vacated.$Properties): void => {
    if (holder instanceof Process) holder.channel.send({ vacated });
  };
  /** Asks all processes to let go of what they no longer use; resolves when they have, or take too long. */
  readonly collect = (): Promise<void> => {
    const asked = [...this.#processes].filter(({ channel }) => !channel.isClosed);
    for (const { channel } of asked) channel.send({ collect: {} });
    return new Promise((resolve) => {
      const late = setTimeout(resolve, COLLECT_MS_MAX);
      let missing = asked.length;
      for (const process of asked) {
        process.collecting.push(() => {
          missing -= 1;
          if (missing > 0) return;
          clearTimeout(late);
          resolve();
        });
      }
    });
  };

  /** Asks workers for what they have run and not told yet. */
  tellActivity(): void {
    for (const { channel, isDriver } of this.#processes) if (!isDriver) channel.send({ tellActivity: {} });
  }

  /** What each process says that it holds; null of one that does not say so in time. */
  readonly survey = (): Promise<readonly wire.ProcessHoldings.$Properties[]> => this.#survey.ask(this.#processes);

  #accept(channel: MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>): void {
    let process: Process | null = null;
    channel.receive((message) => {
      if (process) this.#serve(process, message);
      else process = this.#attach(channel, message);
    });
    channel.onClose(({ error }) => {
      if (error) this.#log.warn('a process of this machine was cut off', { error });
      if (!process) return;
      this.#processes.delete(process);
      process.collected();
      this.#survey.gone(process);
      this.#index.processGone(process, process.workerId, process.reader);
      if (process.reader !== null) this.#freeReaders.push(process.reader);
    });
  }

  /** The first message must be an attach with the cluster's token; throws otherwise, which closes the channel. */
  #attach(
    channel: MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>,
    message: wire.ProcessToAgent,
  ): Process {
    const { attach, requestId } = message;
    const refuse = (detail: string): never => {
      const error = new ConnectionError({ address: this.#path, detail });
      channel.send({ requestId, failure: failureOf(error) });
      throw error;
    };
    if (!attach || !isSameToken(attach.token ?? '', this.#token))
      return refuse(
        'the cluster token is wrong. Give the token of this cluster: the one in the join command that "raylite start --head" printed',
      );
    if (attach.protocol !== PROTOCOL_VERSION)
      return refuse(
        `the agent speaks protocol ${PROTOCOL_VERSION}, not ${attach.protocol}: install the same raylite version`,
      );
    const process = new Process(channel, attach, this.#freeReaders.at(-1) ?? null);
    if (!attach.isDriver && !this.#pool().attached(process.spawnId, process))
      return refuse('this agent did not start that worker');
    this.#freeReaders.pop();
    this.#processes.add(process);
    channel.send({ requestId, attached: { ...this.#attached(), reader: (process.reader ?? -1) + 1 } });
    return process;
  }

  #serve(process: Process, message: wire.ProcessToAgent): void {
    const { requestId } = message;
    const answer = (reply: wire.AgentToProcess.$Properties): void => process.channel.send({ ...reply, requestId });
    if (message.leaseSlab) {
      this.#index
        .lease(message.leaseSlab.size ?? 0, process, () => process.channel.isClosed)
        .then(
          (slab) => answer({ slab: slab ?? {} }),
          (error: unknown) => answer({ failure: failureOf(error) }),
        );
    } else if (message.returnSlab) this.#index.giveBack(message.returnSlab.slab ?? 0, process);
    else if (message.sealed) {
      if (!this.#index.sealed(message.sealed, process))
        throw new ConnectionError({
          address: this.#path,
          detail: `${process.workerId} sealed an object outside its slabs`,
        });
    } else if (message.freed)
      this.#index.freedByOwner((message.freed.objectId ?? '') as ObjectId, message.freed.location ?? {});
    else if (message.pull) {
      const { objectId, from } = message.pull;
      this.#index.pull((objectId ?? '') as ObjectId, from ?? {}, process).then(
        (pulled) => answer({ pulled }),
        (error: unknown) => answer({ failure: failureOf(error) }),
      );
    } else if (message.releasePull) {
      const { objectId, file } = message.releasePull;
      this.#index.releasePull((objectId ?? '') as ObjectId, file ?? '', process);
    } else if (message.ready)
      this.#pool().ready(process.spawnId, message.ready.address ?? {}, message.ready.failure ?? null);
    else if (message.exiting) this.#pool().exiting(process.spawnId);
    else if (message.collected) process.collected();
    else if (message.held) this.#survey.answered(process, message.held);
    else if (message.activity) this.#activity(process.spawnId, message.activity);
    else if (message.lingering) this.#pool().lingering(process.spawnId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes) process.channel.close('the node ends');
    await new Promise((closed) => {
      this.#server.close(closed);
    });
  }
}
