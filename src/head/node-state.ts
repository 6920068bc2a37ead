// Membership: nodes join, go silent, come back, are lost.
//
//   (new) ─nodeJoined→ connected ─nodeAway→ away ─nodeJoined→ connected
//   connected | away ─nodeLost→ dead (final)        (draining meanwhile or not: drain-state.ts)
import type { ActorId, JobId, LeaseId, NodeId, WorkerId } from '../common/index.js';
import { actorStarted } from './actor-state.js';
import { type ClusterState, ENDED_NODES_MAX } from './cluster-state.js';
import { drainText, isEmptied } from './drain-state.js';
import type { Effect } from './effects.js';
import type { Address, NodeBeat, NodeFacts, WorkerRecord } from './entities.js';
import { loseBundles } from './group-state.js';
import { dropIdle } from './handover.js';
import { isEnded, jobExited, startTimes } from './job-state.js';
import { schedule } from './schedule.js';
import { fitsGpus, newGpuRoom, withBroken } from './scheduler/gpu-room.js';
import { addWorker, closeNode, setNode, workersAt } from './tables.js';
import { loseWorker, workerStarted } from './worker-state.js';

/** A worker that a joining node says is running. `address` is null until it serves calls. */
export interface RunningWorker {
  readonly workerId: WorkerId;
  readonly actorId: ActorId | null;
  readonly leaseId: LeaseId | null;
  readonly address: Address | null;
  readonly pid: number;
  /** Devices of its node that it sees. */
  readonly gpus: readonly number[];
}

/** A node says hello, for the first time or again. What it runs is adopted; what it no longer runs is gone. */
export function nodeJoined(
  state: ClusterState,
  facts: NodeFacts,
  running: { readonly workers: readonly RunningWorker[]; readonly jobs: readonly JobId[] },
  atMs: number,
): readonly Effect[] {
  const known = state.nodes.get(facts.nodeId);
  if (known?.status === 'dead') {
    const reason = `the cluster gave node ${facts.nodeId} up (${known.endReason}); it may join again as a new node`;
    return [{ kind: 'freeNode', nodeId: facts.nodeId, reason, isDrained: known.drain !== undefined }];
  }
  dropIdle(state, facts.nodeId);
  setNode(state, {
    ...facts,
    status: 'connected',
    used: known?.used ?? {},
    gpus: known?.gpus ?? newGpuRoom(facts.total),
    beat: known?.beat ?? null,
    ...(known?.drain && { drain: known.drain }),
    joinedAtMs: known?.joinedAtMs ?? atMs,
    endedAtMs: null,
    endReason: null,
  });
  const effects: Effect[] = [{ kind: 'save', table: 'node', id: facts.nodeId }];
  const here = new Set(running.workers.map((worker) => worker.workerId));
  for (const worker of workersAt(state, facts.nodeId)) {
    if (here.has(worker.workerId)) continue;
    const incarnation = startingAs(state, worker);
    if (incarnation !== null) {
      effects.push({ kind: 'startWorker', nodeId: facts.nodeId, workerId: worker.workerId, incarnation });
      continue;
    }
    const detail = `its process was gone when node ${facts.nodeId} came back`;
    effects.push(
      ...loseWorker(
        state,
        worker.workerId,
        { detail, exitCode: null, signal: null, lastLogLines: [], isIntended: false, cause: null },
        atMs,
      ),
    );
  }
  for (const worker of running.workers) effects.push(...adoptWorker(state, facts.nodeId, worker));
  const jobsHere = new Set(running.jobs);
  for (const job of [...state.jobs.values()]) {
    if (job.nodeId !== facts.nodeId || job.type !== 'SUBMISSION' || isEnded(job) || jobsHere.has(job.jobId)) continue;
    // What has ended there is told as running, with the news of its end behind: the order never reached its node.
    if (job.isStopRequested) effects.push(...jobExited(state, job, { exitCode: -1, signal: '', failure: null }, atMs));
    else effects.push({ kind: 'startJob', nodeId: facts.nodeId, jobId: job.jobId });
  }
  for (const jobId of running.jobs) {
    const job = state.jobs.get(jobId);
    // An order to stop that was given while the node was away never reached it.
    if (!job || isEnded(job) || job.isStopRequested) effects.push({ kind: 'stopJob', nodeId: facts.nodeId, jobId });
  }
  return [...effects, ...startTimes(state, schedule(state), atMs)];
}

/** As which start of its actor (of a lease: 0) a worker is on its way, that its node knows nothing of; null: it was there. */
function startingAs(state: ClusterState, { purpose }: WorkerRecord): number | null {
  if (purpose === null) return null;
  if (purpose.kind === 'lease') return state.leases.get(purpose.leaseId)?.phase.kind === 'starting' ? 0 : null;
  const actor = state.actors.get(purpose.actorId);
  return actor?.phase.kind === 'starting' ? actor.incarnation : null;
}

function adoptWorker(state: ClusterState, nodeId: NodeId, worker: RunningWorker): readonly Effect[] {
  const stop: Effect = {
    kind: 'stopWorker',
    nodeId,
    workerId: worker.workerId,
    force: true,
    reason: 'the cluster no longer needs it',
  };
  const known = state.workers.get(worker.workerId);
  // Without a purpose it was to end; the order, given while its node was away, never reached it.
  if (known?.purpose === null) return [stop];
  if (known) return worker.address ? workerStarted(state, worker.workerId, worker.address, worker.pid) : [];
  const actor = worker.actorId === null ? undefined : state.actors.get(worker.actorId);
  if (actor?.phase.kind !== 'pending' || !worker.address) return [stop];
  // The head lost the record of the start, not the actor: what runs is better than a second copy.
  // Which bundle of a placement group it ran in went with that record.
  if (actor.demand.bundle) return [stop];
  const { gpus } = worker;
  if (!fitsGpus(gpus, actor.holds, state.nodes.get(nodeId)!.gpus)) return [stop];
  addWorker(state, { nodeId, gpus }, worker.workerId, actor.holds, { kind: 'actor', actorId: actor.actorId });
  actor.gpus = gpus;
  state.pending.delete(`actor:${actor.actorId}`);
  actor.phase = { kind: 'starting', nodeId, workerId: worker.workerId };
  return actorStarted(actor, worker.address, worker.pid);
}

/** How a node is. GPUs that broke take nothing new; one that is well again does. */
export function nodeBeat(state: ClusterState, nodeId: NodeId, beat: NodeBeat, atMs: number): readonly Effect[] {
  const node = state.nodes.get(nodeId);
  if (!node || node.status === 'dead') return [];
  node.beat = beat;
  if (node.drain && beat.keptForOthers === 0 && isEmptied(state, nodeId))
    return nodeLost(state, nodeId, `it was drained (${drainText(node.drain)})`, atMs);
  const broken = new Set(beat.gpus.filter(({ fault }) => fault !== '').map(({ device }) => device));
  if (node.gpus.every(({ device, isBroken = false }) => isBroken === broken.has(device))) return [];
  setNode(state, Object.assign(node, { gpus: withBroken(node.gpus, broken) }));
  return startTimes(state, schedule(state), atMs);
}

/** Its stream broke: nothing new is placed there, and nothing is lost yet. */
export function nodeAway(state: ClusterState, nodeId: NodeId): readonly Effect[] {
  const node = state.nodes.get(nodeId);
  if (node?.status !== 'connected') return [];
  closeNode(state, node, 'away');
  dropIdle(state, nodeId);
  return [];
}

/** A node that is to leave has had its time, and something still runs there: that ends with it. */
export function nodeOverdue(state: ClusterState, nodeId: NodeId, atMs: number): readonly Effect[] {
  const drain = state.nodes.get(nodeId)?.drain;
  if (!drain || drain.deadlineAtMs === null || drain.deadlineAtMs > atMs) return [];
  return nodeLost(state, nodeId, `it was drained (${drainText(drain)}), and its time was over`, atMs);
}

/** Silent for too long, or it left: final. Its actors restart elsewhere where they may; its jobs fail. */
export function nodeLost(state: ClusterState, nodeId: NodeId, reason: string, atMs: number): readonly Effect[] {
  const node = state.nodes.get(nodeId);
  if (!node || node.status === 'dead') return [];
  const isDrained = node.drain !== undefined;
  closeNode(state, node, 'dead');
  dropIdle(state, nodeId);
  node.endedAtMs = atMs;
  node.endReason = reason;
  const effects: Effect[] = [
    { kind: 'save', table: 'node', id: nodeId },
    { kind: 'freeNode', nodeId, reason, isDrained },
    ...(isDrained ? [{ kind: 'nodesDraining' } as const] : []),
  ];
  const detail = `its node ${nodeId} (${node.hostname}) was lost: ${reason}`;
  for (const worker of workersAt(state, nodeId)) {
    if (!state.workers.has(worker.workerId)) continue; // it ended with its owner, a worker of this node
    effects.push(
      ...loseWorker(
        state,
        worker.workerId,
        { detail, exitCode: null, signal: null, lastLogLines: [], isIntended: false, cause: null, isDrained },
        atMs,
      ),
    );
  }
  effects.push(...loseBundles(state, nodeId));
  for (const job of [...state.jobs.values()]) {
    if (job.nodeId !== nodeId || job.type !== 'SUBMISSION') continue;
    effects.push(...jobExited(state, job, { exitCode: -1, signal: '', failure: detail }, atMs));
  }
  const ended = [...state.nodes.values()].filter((other) => other.status === 'dead');
  for (const old of ended.slice(0, Math.max(0, ended.length - ENDED_NODES_MAX))) {
    state.nodes.delete(old.nodeId);
    effects.push({ kind: 'forget', table: 'node', id: old.nodeId });
  }
  return [...effects, ...startTimes(state, schedule(state), atMs)];
}
