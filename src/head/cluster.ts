// Runs the decisions of step.ts: feeds it events, keeps what must survive, and hands every effect to the link of its
// receiver. Knows links (something to send messages to), not sockets.
import { type ClusterId, type JobId, type NodeId, newClusterId, newWorkerId, type WorkerId } from '../common/index.js';
import type { RunReport } from '../observe/index.js';
import type { wire } from '../protocol/index.js';
import { type ClusterState, createClusterState } from './cluster-state.js';
import { drainingNodes } from './drain-state.js';
import type { Answer, Effect } from './effects.js';
import type { JobLogs } from './job-logs.js';
import { LogFlushes } from './log-flushes.js';
import { NodeSurveys, type SurveyResult } from './node-survey.js';
import { Outbox } from './outbox.js';
import { restore } from './records.js';
import { type RunRecord, Runs } from './runs.js';
import { type ClusterEvent, step } from './step.js';
import type { Store } from './store.js';
import { actorOut, drainingOut, startJobOut, startWorkerOut } from './wire-out.js';

/** A node silent for this long is lost. */
export const NODE_SILENT_MS_MAX = 10_000;
/** After a restart of the head, nodes and drivers have this long to come back. */
export const ADOPTION_MS = 30_000;
/** A driver whose stream broke has this long to come back. */
export const CLIENT_AWAY_MS_MAX = 5_000;
/** How often curves of runs are written down, at most. */
const RUN_SAVE_MS = 2_000;

export interface NodeLink {
  send(message: wire.HeadToNode.$Properties): void;
}
export interface ClientLink {
  send(message: wire.HeadToClient.$Properties): void;
}

export interface ClusterOptions {
  readonly store: Store;
  readonly logs: JobLogs;
  readonly now: () => number; // ms
  /** Hears of what the head cannot go on after (the disk refuses writes). */
  readonly fatal: (error: unknown) => void;
}

export class Cluster {
  readonly id: ClusterId;
  readonly state: ClusterState;
  readonly runs = new Runs();
  readonly kv = new Map<string, Uint8Array>();
  readonly logs: JobLogs;
  readonly now: () => number;
  readonly #outbox: Outbox;
  readonly #nodes = new Map<NodeId, NodeLink>();
  readonly #clients = new Map<WorkerId, ClientLink>();
  readonly #watchers = new Map<string, Set<ClientLink>>();
  readonly #answers = new Map<number, (answer: Answer) => void>();
  readonly #nodeDeadlines = new Map<NodeId, number>();
  readonly #clientDeadlines = new Map<WorkerId, number>();
  readonly #changeListeners = new Set<() => void>();
  readonly #logs = new LogFlushes();
  readonly #objectSurveys = new NodeSurveys<wire.NodeObjects.$Properties>();
  readonly #callSurveys = new NodeSurveys<wire.NodeCalls.$Properties>();
  #isClosed = false;
  #lastRequest = 0;
  #runsSavedAtMs = 0;

  private constructor(id: ClusterId, state: ClusterState, options: ClusterOptions) {
    this.id = id;
    this.state = state;
    this.logs = options.logs;
    this.now = options.now;
    this.#outbox = new Outbox(state, options.store, (effect) => this.#carryOut(effect), options.fatal);
  }

  /** Takes up what a former head kept, or begins anew. */
  static async open(options: ClusterOptions): Promise<Cluster> {
    const entries = await options.store.load();
    const state = createClusterState(newWorkerId);
    const { owners } = restore(state, entries);
    const known = entries.find((entry) => entry.table === 'meta' && entry.id === 'cluster');
    const id = (known?.value as { readonly clusterId: ClusterId } | undefined)?.clusterId ?? newClusterId();
    if (!known) await options.store.write([{ table: 'meta', id: 'cluster', value: { clusterId: id } }], true);
    const cluster = new Cluster(id, state, options);
    for (const { table, id: key, value } of entries) {
      if (table === 'kv') cluster.kv.set(key, value as Uint8Array);
      if (table === 'run') cluster.runs.restore(key, value as RunRecord);
    }
    const deadline = options.now() + ADOPTION_MS;
    for (const node of state.nodes.values())
      if (node.status === 'away') cluster.#nodeDeadlines.set(node.nodeId, deadline);
    for (const owner of owners) if (!state.workers.has(owner)) cluster.#clientDeadlines.set(owner, deadline);
    return cluster;
  }

  /** Everything accepted so far is on disk. */
  get idle(): Promise<void> {
    return this.#outbox.idle;
  }

  apply(event: ClusterEvent): void {
    if (this.#isClosed) return;
    this.#outbox.put(step(this.state, event, this.now()));
    this.#changed();
  }

  /** Applies the event that `make` builds around a request number, and resolves with its answer. */
  ask(make: (request: number) => ClusterEvent): Promise<Answer> {
    const request = ++this.#lastRequest;
    return new Promise((resolve) => {
      this.#answers.set(request, resolve);
      this.apply(make(request));
    });
  }

  /** Resolves when the key is on disk. */
  kvPut(key: string, value: Uint8Array | undefined): Promise<void> {
    if (this.#isClosed) return new Promise(() => {}); // never acknowledged: it will not be written
    if (value === undefined) this.kv.delete(key);
    else this.kv.set(key, value);
    return new Promise((done) => this.#outbox.put([{ kind: 'change', change: { table: 'kv', id: key, value }, done }]));
  }

  /** Output of a job, from the node that runs it; from any other it is ignored. */
  jobOutput(nodeId: NodeId, jobId: JobId, output: { readonly offset: number; readonly chunk: Uint8Array }): void {
    if (this.#takesOutput(nodeId, jobId)) this.logs.append(jobId, output);
  }
  /** How much of the output of those that run there the head has. */
  outputsSoFar(nodeId: NodeId, jobIds: readonly JobId[]): { jobId: JobId; bytes: number }[] {
    const here = jobIds.filter((jobId) => this.#takesOutput(nodeId, jobId));
    return here.map((jobId) => ({ jobId, bytes: this.logs.received(jobId) }));
  }
  #takesOutput(nodeId: NodeId, jobId: JobId): boolean {
    const job = this.state.jobs.get(jobId);
    return job?.nodeId === nodeId && job.endedAtMs === null;
  }

  report(report: RunReport): void {
    this.runs.report(report, this.now());
    this.#changed();
  }

  // ---- links ----

  nodeOpened(nodeId: NodeId, link: NodeLink): void {
    this.#nodes.set(nodeId, link);
    this.nodeHeard(nodeId);
  }
  nodeHeard(nodeId: NodeId): void {
    this.#nodeDeadlines.set(nodeId, this.now() + NODE_SILENT_MS_MAX);
  }
  /** A link that a newer one has replaced is of no interest any more. */
  nodeClosed(nodeId: NodeId, link: NodeLink): void {
    if (this.#nodes.get(nodeId) !== link) return;
    this.#nodes.delete(nodeId);
    this.#logs.lost(nodeId);
    this.apply({ kind: 'nodeAway', nodeId });
  }
  clientOpened(workerId: WorkerId, link: ClientLink): void {
    this.#clients.set(workerId, link);
    this.#clientDeadlines.delete(workerId);
  }
  clientClosed(workerId: WorkerId, link: ClientLink, isClean: boolean): void {
    for (const watchers of this.#watchers.values()) watchers.delete(link);
    if (this.#clients.get(workerId) !== link) return;
    this.#clients.delete(workerId);
    if (isClean) this.apply({ kind: 'clientLeft', workerId, isClean });
    else this.#clientDeadlines.set(workerId, this.now() + CLIENT_AWAY_MS_MAX);
  }
  watch(actorId: string, link: ClientLink): void {
    const watchers = this.#watchers.get(actorId) ?? new Set();
    watchers.add(link);
    this.#watchers.set(actorId, watchers);
  }
  /** The link of the driver of a job, for the output of its workers. */
  driverOf(jobId: JobId): ClientLink | undefined {
    const driverId = this.state.jobs.get(jobId)?.driverId;
    return driverId ? this.#clients.get(driverId) : undefined;
  }
  /** Resolves once the nodes that ran work of a job have passed on what its workers wrote. */
  flushLogs(jobId: JobId): Promise<void> {
    return this.#logs.flush(jobId, (nodeId, id) => {
      const link = this.#nodes.get(nodeId);
      link?.send({ flushLogs: { id } });
      return link !== undefined;
    });
  }
  /** What objects there are and who holds them, as all nodes that are connected say. */
  surveyObjects(): Promise<SurveyResult<wire.NodeObjects.$Properties>> {
    return this.#objectSurveys.ask(this.#nodes.keys(), (nodeId, id) =>
      this.#nodes.get(nodeId)?.send({ surveyObjects: { id } }),
    );
  }
  objectsSurveyed(nodeId: NodeId, { id, node }: wire.ObjectsSurveyed.$Properties): void {
    this.#objectSurveys.answered(nodeId, id ?? 0, node ?? {});
  }
  /** The calls that ran on the nodes that are connected, and those that run. */
  surveyCalls(): Promise<SurveyResult<wire.NodeCalls.$Properties>> {
    return this.#callSurveys.ask(this.#nodes.keys(), (nodeId, id) =>
      this.#nodes.get(nodeId)?.send({ surveyCalls: { id } }),
    );
  }
  callsSurveyed(nodeId: NodeId, { id, node }: wire.CallsSurveyed.$Properties): void {
    this.#callSurveys.answered(nodeId, id ?? 0, node ?? {});
  }
  logsFlushed(nodeId: NodeId, id: number): void {
    this.#logs.flushed(nodeId, id);
  }
  /** Calls `listener` after every change that somebody could see. Returns how to stop that. */
  onChange(listener: () => void): () => void {
    this.#changeListeners.add(listener);
    return () => void this.#changeListeners.delete(listener);
  }

  /** Gives up what has been silent for too long, and writes curves down. Called about once a second. */
  tick(): void {
    const now = this.now();
    for (const [nodeId, deadline] of this.#nodeDeadlines) {
      if (now < deadline) continue;
      this.#nodeDeadlines.delete(nodeId);
      this.apply({ kind: 'nodeLost', nodeId, reason: 'it was silent for too long' });
    }
    for (const [workerId, deadline] of this.#clientDeadlines) {
      if (now < deadline) continue;
      this.#clientDeadlines.delete(workerId);
      this.apply({ kind: 'clientLeft', workerId, isClean: false });
    }
    for (const { nodeId, drain } of drainingNodes(this.state))
      if (drain.deadlineAtMs !== null && drain.deadlineAtMs <= now) this.apply({ kind: 'nodeOverdue', nodeId });
    if (now - this.#runsSavedAtMs >= RUN_SAVE_MS) this.#saveRuns(now);
  }

  #saveRuns(now: number): void {
    const gone = this.runs.trim();
    const changes = [
      ...[...this.runs.changed].map((id) => ({ table: 'run' as const, id, value: this.runs.get(id) as unknown })),
      ...gone.map((id) => ({ table: 'run' as const, id, value: undefined })),
    ];
    this.runs.changed.clear();
    this.#runsSavedAtMs = now;
    this.#outbox.put(changes.map((change) => ({ kind: 'change', change, done: () => {} })));
  }

  /**
   * Writes down what only memory has, and takes no more events: that streams break because this head ends says nothing
   * about those at their other end.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#saveRuns(this.now());
    await this.idle;
  }

  #changed(): void {
    for (const listener of this.#changeListeners) listener();
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'startWorker': {
        const worker = this.state.workers.get(effect.workerId);
        const order = worker && startWorkerOut(this.state, worker, effect.incarnation);
        if (!order) return;
        this.#logs.ran(order.jobId as JobId, effect.nodeId);
        this.#nodes.get(effect.nodeId)?.send({ startWorker: order });
        return;
      }
      case 'stopWorker': {
        const { workerId, force, reason, graceMs = 0 } = effect;
        this.#nodes.get(effect.nodeId)?.send({ stopWorker: { workerId, force, reason, graceMs } });
        return;
      }
      case 'startJob': {
        const job = this.state.jobs.get(effect.jobId);
        if (job) this.#nodes.get(effect.nodeId)?.send({ startJob: startJobOut(job) });
        return;
      }
      case 'stopJob':
        this.#nodes.get(effect.nodeId)?.send({ stopJob: { jobId: effect.jobId } });
        return;
      case 'ownerGone':
        for (const link of this.#nodes.values()) link.send({ ownerGone: { workerId: effect.workerId } });
        return;
      case 'leasesWanted':
        this.#clients.get(effect.ownerId)?.send({ requestId: 0, leasesWanted: {} });
        return;
      case 'freeNode':
        this.#nodes.get(effect.nodeId)?.send({ free: { reason: effect.reason, isDrained: effect.isDrained } });
        return;
      case 'nodesDraining': {
        const draining = drainingOut(this.state, this.now());
        for (const link of this.#clients.values()) link.send(draining);
        for (const { nodeId } of drainingNodes(this.state)) this.#nodes.get(nodeId)?.send({ drain: {} });
        return;
      }
      case 'actorChanged': {
        const actor = this.state.actors.get(effect.actorId);
        const watchers = this.#watchers.get(effect.actorId);
        if (!actor || !watchers) return;
        for (const link of watchers) link.send({ requestId: 0, actor: actorOut(this.state, actor) });
        if (actor.phase.kind === 'dead') this.#watchers.delete(effect.actorId);
        return;
      }
      case 'jobChanged': {
        const job = this.state.jobs.get(effect.jobId);
        if (job?.endedAtMs === null) return;
        this.logs.end(effect.jobId);
        this.#logs.forget(effect.jobId);
        return;
      }
      case 'answer': {
        if (effect.request === null) return;
        const resolve = this.#answers.get(effect.request);
        this.#answers.delete(effect.request);
        resolve?.(effect.answer);
        return;
      }
      case 'forget':
        if (effect.table === 'job') this.logs.remove(effect.id as JobId);
        return;
      case 'save':
        return; // the outbox has done it
    }
  }
}
