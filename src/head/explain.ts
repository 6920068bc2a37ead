// Why something waits, where it is and why there: what the scheduler decided, in words. Pure.
import {
  type ActorId,
  formatResources,
  type GroupId,
  type JobId,
  type LeaseId,
  type NodeId,
  type WorkerId,
} from '../common/index.js';
import { actorStateName } from './actor-state.js';
import type { ClusterState } from './cluster-state.js';
import { drainText } from './drain-state.js';
import type { ActorRecord, BundlePlace, GroupRecord, JobRecord, LeaseRecord, NodeRecord } from './entities.js';
import { groupStateName } from './group-state.js';
import type { PendingKey } from './pending-queue.js';
import { groupDemand, waitReason } from './schedule.js';
import { type Obstacle, obstaclesOf } from './scheduler/explain.js';
import { availableOf, type Demand, demandFor, type PlacedBy } from './scheduler/place.js';
import { workersAt } from './tables.js';
import { demandOf } from './waiting.js';
import { nodeStateName } from './wire-out.js';

export interface Explanation {
  readonly kind: 'actor' | 'task' | 'placement group' | 'node' | 'job' | 'object';
  readonly id: string;
  readonly name: string; // class, entrypoint, host; may be empty
  readonly state: string;
  /** Where it is and why there, or why it waits or has ended; a sentence each. */
  readonly because: readonly string[];
  /** What keeps it off each node, while it waits. */
  readonly obstacles: readonly Obstacle[];
}

const CHOICE: Readonly<Record<Exclude<PlacedBy, 'bundle'>, string>> = {
  affinity: 'its scheduling strategy names that node',
  preference: 'it prefers that node, which had room',
  locality: 'most bytes of its arguments lie there',
  packing: 'of the nodes that stay at most half used with it, that one had joined first (DEFAULT)',
  'least use': 'each node with room would be more than half used with it, and that one was the least used (DEFAULT)',
  spreading: 'fewest of its kind were on that node (SPREAD)',
};

/** By its id; actors and placement groups by their name too. Null: nothing is called that, objects apart. */
export function explain(state: ClusterState, id: string): Explanation | null {
  const actor = state.actors.get(id as ActorId) ?? actorNamed(state, id);
  if (actor) return ofActor(state, actor);
  const group = state.groups.get(id as GroupId) ?? [...state.groups.values()].find(({ name }) => name === id);
  if (group) return ofGroup(state, group);
  const node = state.nodes.get(id as NodeId);
  if (node) return ofNode(state, node);
  const job = state.jobs.get(id as JobId);
  if (job) return ofJob(state, job);
  const lease = state.leases.get(id as LeaseId);
  if (lease) return ofTask(state, lease);
  const purpose = state.workers.get(id as WorkerId)?.purpose;
  if (!purpose) return null;
  return explain(state, purpose.kind === 'actor' ? purpose.actorId : purpose.leaseId);
}

function actorNamed(state: ClusterState, name: string): ActorRecord | undefined {
  for (const actorId of state.names.values()) {
    const actor = state.actors.get(actorId)!;
    if (actor.name === name) return actor;
  }
  return undefined;
}

function ofActor(state: ClusterState, actor: ActorRecord): Explanation {
  const { actorId, className, phase, restartCount, maxRestarts } = actor;
  const what = { kind: 'actor', id: actorId, name: className, state: actorStateName(actor) } as const;
  const restarts =
    restartCount > 0
      ? [`It was started again ${restartCount} of at most ${maxRestarts === -1 ? 'any number of' : maxRestarts} times.`]
      : [];
  if (phase.kind === 'pending') return { ...what, ...waiting(state, `actor:${actorId}`, restarts) };
  if (phase.kind === 'dead') return { ...what, because: [`It ended: ${phase.death.detail}.`], obstacles: [] };
  const process = phase.kind === 'alive' ? `, in process ${phase.pid}` : '; its process is starting';
  const because = [
    `It is on ${nodeName(state, phase.nodeId)}${process}.`,
    ...whyThere(actor.placedBy, actor.bundle),
    `It holds ${formatResources(state.workers.get(phase.workerId)?.holds ?? {})}.`,
    ...restarts,
  ];
  return { ...what, because, obstacles: [] };
}

function ofTask(state: ClusterState, lease: LeaseRecord): Explanation {
  const { leaseId, phase, jobId } = lease;
  const what = { kind: 'task', id: leaseId, name: `of ${jobId}` } as const;
  if (phase.kind === 'pending') return { ...what, state: 'PENDING', ...waiting(state, `lease:${leaseId}`) };
  const because = [
    `Its worker ${phase.workerId} is on ${nodeName(state, phase.nodeId)}.`,
    ...whyThere(lease.placedBy, lease.bundle),
  ];
  return { ...what, state: phase.kind === 'granted' ? 'RUNNING' : 'STARTING', because, obstacles: [] };
}

function ofJob(state: ClusterState, job: JobRecord): Explanation {
  const what = { kind: 'job', id: job.jobId, name: job.entrypoint, state: job.status } as const;
  if (job.status === 'PENDING') return { ...what, ...waiting(state, `job:${job.jobId}`) };
  const end = job.message === '' ? [] : [`It ended: ${job.message}.`];
  const place =
    job.nodeId === null
      ? ['Its driver is a process that connected by itself.']
      : [`Its entrypoint was placed on ${nodeName(state, job.nodeId)}.`, ...whyThere(job.placedBy, undefined)];
  return { ...what, because: [...place, ...end], obstacles: [] };
}

function ofGroup(state: ClusterState, group: GroupRecord): Explanation {
  const { groupId, bundles, places, strategy } = group;
  const what = { kind: 'placement group', id: groupId, name: group.name, state: groupStateName(group) } as const;
  const because = places.flatMap(({ nodeId, used }, index) => {
    if (nodeId === null) return [];
    const needs = formatResources(bundles[index]!.needs);
    return [`Bundle ${index} (${needs}) is on ${nodeName(state, nodeId)}; ${formatResources(used)} of it is used.`];
  });
  if (group.phase.kind === 'created') return { ...what, because, obstacles: [] };
  const nodes = state.index.nodes();
  const missing = groupDemand(group).bundles.filter(({ nodeId }) => nodeId === null);
  const demands = new Map(
    missing
      .map(({ needs, selector }) => demandFor({ needs, selector, strategy: 'DEFAULT', locality: [] }))
      .map((demand) => [demand.shape, demand]),
  );
  const homeless = [...demands.values()].filter((demand) => !hasRoom(state, demand));
  const together =
    homeless.length === 0 && nodes.length > 0
      ? [`Each of its bundles has room somewhere, but not all together as ${strategy} asks.`]
      : [];
  return {
    ...what,
    because: [...because, `It ${waitReason(state, `group:${groupId}`)}.`, ...together],
    obstacles: homeless.flatMap((demand) => obstaclesOf(demand, nodes)),
  };
}

function ofNode(state: ClusterState, node: NodeRecord): Explanation {
  const { nodeId, hostname, total } = node;
  const what = { kind: 'node', id: nodeId, name: hostname, state: nodeStateName(node), obstacles: [] } as const;
  if (node.status === 'dead') return { ...what, because: [`It was given up: ${node.endReason}.`] };
  const workers = workersAt(state, nodeId);
  const count = (kind: string): number => workers.filter(({ purpose }) => purpose?.kind === kind).length;
  const bundles = [...state.groups.values()].flatMap(({ places }) => places).filter((place) => place.nodeId === nodeId);
  const jobs = [...state.jobs.values()].filter((job) => job.nodeId === nodeId && job.status === 'RUNNING');
  const holders = [
    `${count('actor')} actors`,
    `${count('lease')} workers for tasks`,
    `${bundles.length} bundles of placement groups`,
    `${jobs.length} jobs`,
    `${workers.filter(({ purpose }) => purpose === null).length} workers that are ending`,
  ];
  return {
    ...what,
    because: [
      ...(node.status === 'away' ? ['Its connection broke: nothing new is placed there until it is back.'] : []),
      ...(node.drain ? [`It is to leave (${drainText(node.drain)}): nothing new is placed there.`] : []),
      `${formatResources(availableOf(node))} of ${formatResources(total)} is free.`,
      `On it are ${holders.filter((holder) => !holder.startsWith('0 ')).join(', ') || 'no work'}.`,
    ],
  };
}

/** What is true of everything that waits for a node or a bundle. */
function waiting(
  state: ClusterState,
  key: PendingKey,
  more: readonly string[] = [],
): Pick<Explanation, 'because' | 'obstacles'> {
  const demand = demandOf(state, key)!;
  const before = state.pending.positionOf(key);
  const line = before > 0 ? [`${before} that ask for the same are before it.`] : [];
  return {
    because: [`It ${waitReason(state, key)}.`, ...line, ...more],
    obstacles: demand.bundle ? [] : obstaclesOf(demand, state.index.nodes()),
  };
}

function whyThere(by: PlacedBy | undefined, bundle: BundlePlace | undefined): readonly string[] {
  if (by === 'bundle' && bundle) return [`Bundle ${bundle.index} of placement group ${bundle.groupId} is there.`];
  return by === undefined || by === 'bundle' ? [] : [`That node was chosen since ${CHOICE[by]}.`];
}

const hasRoom = (state: ClusterState, demand: Demand): boolean => state.index.place(demand, '').kind === 'node';

function nodeName(state: ClusterState, nodeId: NodeId): string {
  const hostname = state.nodes.get(nodeId)?.hostname;
  return `node ${nodeId}${hostname === undefined ? '' : ` (${hostname})`}`;
}
