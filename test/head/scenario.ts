// Drives the head's decision function with short events and shows its effects as lines of text.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, Resources, WorkerId } from '#src/common/index.js';
import {
  type ClusterEvent,
  type ClusterState,
  createClusterState,
  type DrainOrder,
  demandFor,
  type Effect,
  type GroupStrategy,
  type NodeBeat,
  step,
} from '#src/head/index.js';

export interface Scenario {
  readonly state: ClusterState;
  node(
    id: string,
    total?: Resources,
    extra?: { labels?: Record<string, string>; workers?: string[]; jobs?: string[] },
  ): string[];
  actor(id: string, options?: ActorOptions): string[];
  lease(id: string, needs?: Resources, options?: LeaseOptions): string[];
  giveBack(id: string): string[];
  /** A node says which of its GPUs are broken. */
  broken(nodeId: string, devices: readonly number[]): string[];
  /** A node is told to leave; `forMs` from now on is its time. */
  drain(nodeId: string, forMs?: number, reason?: DrainOrder['reason']): string[];
  /** The devices of the worker that serves `id`. */
  gpusOf(id: string): readonly number[];
  /** What is free of each GPU of a node. */
  freeGpus(nodeId: string): number[];
  group(id: string, bundles: readonly Resources[], options?: GroupOptions): string[];
  /** Nodes of the bundles of a group, '-' where there is none. */
  placesOf(id: string): string[];
  job(id: string, needs?: Resources): string[];
  /** The worker that serves actor or lease `id` reports that it is ready. */
  ready(id: string): string[];
  /** The worker that serves `id` dies. */
  crash(id: string): string[];
  send(event: ClusterEvent): string[];
  workerOf(id: string): WorkerId;
}

export interface LeaseOptions {
  readonly owner?: string;
  readonly job?: string;
  readonly strategy?: string;
  readonly waits?: boolean;
  readonly priority?: number;
  readonly bundle?: [groupId: string, index: number];
}

export interface GroupOptions {
  readonly strategy?: GroupStrategy;
  readonly domain?: string;
  readonly name?: string;
  readonly isDetached?: boolean;
  readonly waits?: boolean;
  readonly selectors?: readonly Record<string, string>[];
}

export interface ActorOptions {
  readonly bundle?: [groupId: string, index: number];
  readonly needs?: Resources;
  readonly holds?: Resources;
  readonly name?: string;
  readonly getOrCreate?: boolean;
  readonly maxRestarts?: number;
  readonly isDetached?: boolean;
  readonly owner?: string;
  readonly className?: string;
  readonly strategy?: string;
  readonly selector?: Record<string, string>;
  readonly job?: string;
}

export function scenario(): Scenario {
  let workers = 0;
  let now = 0;
  const state = createClusterState(() => `w${++workers}` as WorkerId);
  const send = (event: ClusterEvent): string[] =>
    step(state, event, ++now)
      .filter((effect) => effect.kind !== 'ownerGone') // part of every end: tested once
      .map((effect) => render(state, effect));
  const workerOf = (id: string): WorkerId => {
    for (const worker of state.workers.values()) {
      const { purpose } = worker;
      if (purpose?.kind === 'actor' && purpose.actorId === id) return worker.workerId;
      if (purpose?.kind === 'lease' && purpose.leaseId === id) return worker.workerId;
    }
    throw new Error(`no worker serves ${id}`);
  };
  const addressOf = (workerId: WorkerId) => ({
    workerId,
    nodeId: state.workers.get(workerId)!.nodeId,
    uds: `/run/${workerId}`,
    tcp: '',
  });
  const demand = (
    needs: Resources,
    strategy = 'DEFAULT',
    selector: Record<string, string> = {},
    bundle?: [groupId: string, index: number],
  ) =>
    demandFor({
      ...(bundle ? { bundle: { groupId: bundle[0], index: bundle[1] } } : {}),
      needs,
      selector,
      strategy,
      locality: [],
    });
  return {
    state,
    send,
    workerOf,
    node: (id, total = { CPU: 2 }, extra = {}) =>
      send({
        kind: 'nodeJoined',
        facts: {
          nodeId: id as NodeId,
          host: '127.0.0.1',
          hostname: `host-${id}`,
          total,
          labels: extra.labels ?? {},
          transfer: '',
          uds: '',
          pid: 1,
          version: '0',
          isHead: false,
        },
        workers: (extra.workers ?? []).map((workerId) => ({
          workerId: workerId as WorkerId,
          actorId: null,
          leaseId: null,
          address: { workerId, nodeId: id, uds: `/run/${workerId}`, tcp: '' },
          pid: 2,
          gpus: [],
        })),
        jobs: (extra.jobs ?? []) as JobId[],
      }),
    actor: (id, options = {}) =>
      send({
        kind: 'createActor',
        request: 1,
        actor: {
          actorId: id as ActorId,
          className: options.className ?? id,
          code: { module: 'main.js', name: id, package: '' },
          name: options.name ?? '',
          namespace: 'default',
          jobId: (options.job ?? 'job-1') as JobId,
          ownerId: (options.owner ?? 'driver') as WorkerId,
          isDetached: options.isDetached ?? false,
          maxRestarts: options.maxRestarts ?? 0,
          waitsIfInfeasible: false,
          demand: demand(options.needs ?? { CPU: 1 }, options.strategy, options.selector, options.bundle),
          holds: options.holds ?? options.needs ?? { CPU: 1 },
          payload: new Uint8Array(),
          handle: new Uint8Array(),
          getOrCreate: options.getOrCreate ?? false,
        },
      }),
    lease: (id, needs = { CPU: 1 }, options = {}) =>
      send({
        kind: 'requestLease',
        request: 2,
        lease: {
          leaseId: id as LeaseId,
          ownerId: (options.owner ?? 'driver') as WorkerId,
          jobId: (options.job ?? 'job-1') as JobId,
          demand: demand(needs, options.strategy, {}, options.bundle),
          capturesChildren: false,
          isRetriable: true,
          runtimeEnv: { package: '', envVars: {} },
          waitsIfInfeasible: options.waits ?? false,
          priority: options.priority ?? 0,
        },
      }),
    giveBack: (id) => {
      const worker = { isBroken: false, force: false };
      return send({ kind: 'returnLease', leaseId: id as LeaseId, worker, request: 4 });
    },
    broken: (nodeId, devices) => send({ kind: 'nodeBeat', nodeId: nodeId as NodeId, beat: beatWith(devices) }),
    drain: (nodeId, forMs, reason = 'preemption') => {
      const deadlineAtMs = forMs === undefined ? null : now + forMs;
      const order = { reason, message: 'the machine is taken back', deadlineAtMs };
      return send({ kind: 'drainNode', nodeId: nodeId as NodeId, order, request: 7 });
    },
    gpusOf: (id) => state.workers.get(workerOf(id))!.gpus ?? [],
    freeGpus: (nodeId) => state.nodes.get(nodeId as NodeId)!.gpus.map(({ free }) => free),
    group: (id, bundles, options = {}) =>
      send({
        kind: 'createGroup',
        request: 6,
        group: {
          groupId: id as GroupId,
          name: options.name ?? '',
          namespace: 'default',
          jobId: 'job-1' as JobId,
          ownerId: 'driver' as WorkerId,
          isDetached: options.isDetached ?? false,
          waitsIfInfeasible: options.waits ?? false,
          strategy: options.strategy ?? 'PACK',
          domain: options.domain ?? '',
          bundles: bundles.map((needs, index) => ({ needs, selector: options.selectors?.[index] ?? {} })),
        },
      }),
    placesOf: (id) => state.groups.get(id as GroupId)!.places.map(({ nodeId }) => nodeId ?? '-'),
    job: (id, needs = {}) =>
      send({
        kind: 'submitJob',
        request: 3,
        job: {
          jobId: id as JobId,
          entrypoint: 'node main.js',
          runtimeEnv: { package: '', envVars: {} },
          demand: demand(needs),
          metadata: {},
        },
      }),
    ready: (id) => {
      const workerId = workerOf(id);
      return send({ kind: 'workerStarted', workerId, address: addressOf(workerId), pid: 10 });
    },
    crash: (id) =>
      send({
        kind: 'workerExited',
        workerId: workerOf(id),
        end: {
          detail: 'its process was ended by SIGKILL',
          exitCode: null,
          signal: 'SIGKILL',
          lastLogLines: ['last words'],
          isIntended: false,
          cause: null,
        },
      }),
  };
}

/** Of a node with these broken GPUs. */
export const beatWith = (devices: readonly number[]): NodeBeat => ({
  cpuPercent: 0,
  memoryUsedBytes: 0,
  memoryTotalBytes: 0,
  storeUsedBytes: 0,
  storeTotalBytes: 0,
  workerCount: 0,
  keptForOthers: 0,
  workers: [],
  gpus: devices.map((device) => ({
    device,
    id: String(device),
    name: 'Stub',
    memoryUsedBytes: 0,
    memoryTotalBytes: 0,
    busyPercent: 0,
    fault: 'Xid 79',
  })),
});

function render(state: ClusterState, effect: Effect): string {
  switch (effect.kind) {
    case 'save':
      return `save ${effect.table} ${effect.id}`;
    case 'forget':
      return `forget ${effect.table} ${effect.id}`;
    case 'startWorker': {
      const purpose = state.workers.get(effect.workerId)?.purpose;
      const what = purpose?.kind === 'actor' ? purpose.actorId : purpose?.leaseId;
      return `start ${what} on ${effect.nodeId} as ${effect.workerId}`;
    }
    case 'stopWorker':
      return `stop ${effect.workerId} on ${effect.nodeId}${effect.force ? ' by force' : ''}`;
    case 'startJob':
      return `start ${effect.jobId} on ${effect.nodeId}`;
    case 'stopJob':
      return `stop ${effect.jobId} on ${effect.nodeId}`;
    case 'ownerGone':
      return `free what ${effect.workerId} owned`;
    case 'leasesWanted':
      return `others wait for what ${effect.ownerId} has`;
    case 'freeNode':
      return `free ${effect.nodeId}`;
    case 'nodesDraining': {
      const leaving = [...state.nodes.values()].filter((node) => node.drain && node.status !== 'dead');
      return `leaving: ${leaving.map((node) => node.nodeId).join(', ') || 'none'}`;
    }
    case 'actorChanged': {
      const phase = state.actors.get(effect.actorId)!.phase;
      return `${effect.actorId} is ${phase.kind}${phase.kind === 'dead' ? `: ${phase.death.detail}` : ''}`;
    }
    case 'jobChanged': {
      const job = state.jobs.get(effect.jobId)!;
      return `${effect.jobId} is ${job.status}${job.message ? `: ${job.message}` : ''}`;
    }
    case 'answer': {
      const { answer } = effect;
      if (answer.kind === 'failure') return `refuse: ${answer.error.message}`;
      if (answer.kind === 'lease') return `grant ${answer.leaseId} at ${answer.address.workerId}`;
      if (answer.kind === 'group') return `group ${answer.groupId}`;
      return answer.kind === 'actor' ? `accept ${answer.actorId}` : 'done';
    }
  }
}
