// The calls that ran on this node, as its workers told them: the last of them, within a limit, and what runs now.
import type { wire } from '../protocol/index.js';

/** Calls that are kept; the oldest go first. */
const CALLS_MAX = 20_000;

interface Entry {
  readonly worker: Omit<wire.WorkerCalls.$Properties, 'calls'>;
  readonly call: wire.CallRecord.$Properties;
}

export class CallLog {
  readonly #max: number;
  readonly #entries: Entry[] = []; // a ring once it is full
  #next = 0;
  #omitted = 0;
  readonly #running = new Map<
    string,
    { readonly worker: Entry['worker']; readonly calls: wire.CallRecord.$Properties[] }
  >();

  constructor(max = CALLS_MAX) {
    this.#max = max;
  }

  note(assignment: wire.StartWorker, pid: number, activity: wire.Activity.$Properties): void {
    const { workerId, jobId, actor } = assignment;
    const worker = { workerId, pid, jobId, actorId: actor?.actorId ?? '' };
    for (const call of activity.calls ?? []) {
      if (this.#entries.length < this.#max) this.#entries.push({ worker, call });
      else {
        this.#entries[this.#next] = { worker, call };
        this.#next = (this.#next + 1) % this.#max;
        this.#omitted += 1;
      }
    }
    this.#omitted += activity.omittedCount ?? 0;
    if (activity.running?.length) this.#running.set(workerId, { worker, calls: activity.running });
    else this.#running.delete(workerId);
  }

  /** A worker has ended: what it ran runs no more. */
  ended(workerId: string): void {
    this.#running.delete(workerId);
  }

  running(workerId: string): readonly string[] {
    return (this.#running.get(workerId)?.calls ?? []).map(({ name }) => name ?? '');
  }

  /** By worker, in the order in which they ended. */
  survey(): wire.NodeCalls.$Properties {
    const workers = new Map<
      string,
      { readonly worker: Entry['worker']; readonly calls: wire.CallRecord.$Properties[] }
    >();
    const of = (worker: Entry['worker']): wire.CallRecord.$Properties[] => {
      const known = workers.get(worker.workerId ?? '') ?? { worker, calls: [] };
      workers.set(worker.workerId ?? '', known);
      return known.calls;
    };
    const inOrder = [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)];
    for (const { worker, call } of inOrder) of(worker).push(call);
    for (const { worker, calls } of this.#running.values()) of(worker).push(...calls);
    return {
      workers: [...workers.values()].map(({ worker, calls }) => ({ ...worker, calls })),
      omittedCount: this.#omitted,
    };
  }
}
