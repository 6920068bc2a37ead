// Which nodes have run work of which job, and who waits for the last lines from them.
import type { JobId, NodeId } from '../common/index.js';

interface Flush {
  readonly missing: Set<NodeId>;
  readonly done: () => void;
}

export class LogFlushes {
  readonly #nodesOf = new Map<JobId, Set<NodeId>>();
  readonly #open = new Map<number, Flush>();
  #lastId = 0;

  ran(jobId: JobId, nodeId: NodeId): void {
    const nodes = this.#nodesOf.get(jobId) ?? new Set();
    nodes.add(nodeId);
    this.#nodesOf.set(jobId, nodes);
  }
  forget(jobId: JobId): void {
    this.#nodesOf.delete(jobId);
  }

  /** Asks the nodes of a job; `ask` says whether the node could be asked. Resolves when all have answered or are lost. */
  flush(jobId: JobId, ask: (nodeId: NodeId, id: number) => boolean): Promise<void> {
    const id = ++this.#lastId;
    const missing = new Set([...(this.#nodesOf.get(jobId) ?? [])].filter((nodeId) => ask(nodeId, id)));
    if (missing.size === 0) return Promise.resolve();
    return new Promise((done) => this.#open.set(id, { missing, done }));
  }
  flushed(nodeId: NodeId, id: number): void {
    const flush = this.#open.get(id);
    if (!flush?.missing.delete(nodeId) || flush.missing.size > 0) return;
    this.#open.delete(id);
    flush.done();
  }
  lost(nodeId: NodeId): void {
    for (const id of [...this.#open.keys()]) this.flushed(nodeId, id);
  }
}
