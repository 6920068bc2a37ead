// The one node of a cluster in one process: does what the head orders, with workers that are no processes. It has no arena:
// all values travel inside messages.
import { hostname } from 'node:os';
import { newNodeId, PROTOCOL_VERSION, RAYLITE_VERSION, type Resources } from '../common/index.js';
import { type Channel, MemoryChannel, MessageChannel, wire } from '../protocol/index.js';
import type { MemoryDoors } from './memory-doors.js';
import { MemoryWorker } from './memory-worker.js';

export class MemoryNode implements Disposable {
  readonly #attached: wire.Attached.$Properties = { nodeId: newNodeId(), headAddress: 'local' };
  readonly #head: MessageChannel<wire.NodeToHead.$Properties, wire.HeadToNode>;
  readonly #openHead: () => Promise<Channel>;
  readonly #doors: MemoryDoors;
  readonly #workers = new Map<string, MemoryWorker>(); // by worker id

  /** @param head this node's stream to the head; `openHead` opens those of its workers */
  constructor(resources: Resources, head: Channel, openHead: () => Promise<Channel>, doors: MemoryDoors) {
    this.#openHead = openHead;
    this.#doors = doors;
    this.#head = new MessageChannel(head, wire.NodeToHead, wire.HeadToNode);
    this.#head.receive((message) => this.#ordered(message));
    this.#head.send({
      hello: {
        protocol: PROTOCOL_VERSION,
        nodeId: this.#attached.nodeId,
        hostname: hostname(),
        total: { amounts: resources },
        pid: process.pid,
        version: RAYLITE_VERSION,
        isHead: true,
      },
    });
  }

  /** A driver's stream to this node. */
  attach(): Channel {
    const [near, far] = MemoryChannel.pair('the driver');
    const messages = new MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>(
      far,
      wire.AgentToProcess,
      wire.ProcessToAgent,
    );
    messages.receive(({ attach, requestId }) => {
      if (attach) messages.send({ requestId, attached: this.#attached });
    });
    return near;
  }

  #ordered(message: wire.HeadToNode): void {
    if (message.startWorker) this.#start(message.startWorker as wire.StartWorker);
    else if (message.stopWorker) {
      const { workerId, force } = message.stopWorker;
      const reason = message.stopWorker.reason ?? '';
      const graceMs = message.stopWorker.graceMs ?? 0;
      const worker = this.#workers.get(workerId ?? '');
      if (force) worker?.kill(reason !== 'it was killed');
      else {
        worker?.ask(reason, graceMs > 0);
        if (graceMs > 0) setTimeout(() => worker?.kill(true), graceMs).unref();
      }
    } else if (message.flushLogs) this.#head.send({ logsFlushed: { id: message.flushLogs.id } }); // nothing lies in pipes
  }

  #start(assignment: wire.StartWorker): void {
    const { workerId } = assignment;
    const cluster = { attached: this.#attached, head: this.#openHead, doors: this.#doors };
    const worker = new MemoryWorker(cluster, assignment, {
      started: (address) => this.#head.send({ workerStarted: { workerId, address, pid: process.pid } }),
      failed: (failure) => this.#head.send({ workerFailed: { workerId, failure, isFinal: true } }),
      exited: (exitCode, isIntended) => {
        this.#workers.delete(workerId);
        this.#head.send({ workerExited: { workerId, exitCode, isIntended } });
      },
    });
    this.#workers.set(workerId, worker);
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers.values()) worker.kill(true);
    this.#head.close('the node ends');
  }
}
