// A cluster that lives in one process: the head's rules, and chance in the place of nodes, drivers and workers. It obeys
// the orders of the head late or not at all (nodes are lost), and asks for work of all kinds.
import type { ActorId, GroupId, JobId, LeaseId, NodeId, Resources, WorkerId } from '#src/common/index.js';
import {
  type ClusterEvent,
  type ClusterState,
  createClusterState,
  demandFor,
  type Effect,
  step,
  type WorkerEnd,
} from '#src/head/index.js';
import { beatWith } from '../scenario.js';
import { GroupsAt } from './groups-at.js';
import { Random } from './random.js';

export interface Size {
  readonly seed: number;
  readonly nodes: number;
  /** Live actors that it grows to. */
  readonly actors: number;
}

/** An order to a node that was not carried out yet. */
interface Order {
  readonly kind: 'start' | 'stop';
  readonly workerId: WorkerId;
  readonly nodeId: NodeId;
}

const END: WorkerEnd = {
  detail: 'its process was ended by SIGKILL',
  exitCode: null,
  signal: 'SIGKILL',
  lastLogLines: [],
  isIntended: false,
  cause: null,
};
const ZONES = 8;

export class World {
  readonly random: Random;
  readonly state: ClusterState;
  readonly groupsAt: GroupsAt;
  /** Requests that were made and not answered. */
  readonly open = new Map<number, ClusterEvent>();
  readonly answered = new Set<number>();
  /** Nodes that may hold more than they have, since workers took back the CPUs that they had lent. */
  readonly overdrawn = new Set<NodeId>();
  events = 0;
  starts = 0;
  readonly #size: Size;
  readonly #orders: Order[] = [];
  readonly #nodes: NodeId[] = [];
  readonly #actors: ActorId[] = [];
  readonly #leases: LeaseId[] = [];
  readonly #groups: GroupId[] = [];
  readonly #jobs: JobId[] = [];
  #made = 0;

  constructor(size: Size) {
    this.#size = size;
    this.random = new Random(size.seed);
    this.state = createClusterState(() => `w${++this.#made}` as WorkerId);
    this.groupsAt = new GroupsAt(this.state);
    for (let node = 0; node < size.nodes; node += 1) this.#join();
  }

  /** One more event; returns it and what it caused. */
  advance(): { readonly event: ClusterEvent; readonly effects: readonly Effect[] } {
    const event = this.#next();
    return { event, effects: this.#send(event) };
  }

  #send(event: ClusterEvent): readonly Effect[] {
    this.events += 1;
    if ('request' in event && event.request !== null) this.open.set(event.request, event);
    const effects = step(this.state, event, this.events);
    this.groupsAt.heard(effects);
    for (const effect of effects) this.#obey(effect);
    return effects;
  }

  #obey(effect: Effect): void {
    if (effect.kind === 'startWorker') {
      this.starts += 1;
      this.#orders.push({ kind: 'start', workerId: effect.workerId, nodeId: effect.nodeId });
    } else if (effect.kind === 'stopWorker') {
      this.#orders.push({ kind: 'stop', workerId: effect.workerId, nodeId: effect.nodeId });
    } else if (effect.kind === 'answer' && effect.request !== null) {
      if (!this.open.delete(effect.request)) throw new Error(`request ${effect.request} was answered twice`);
      this.answered.add(effect.request);
      if (effect.answer.kind === 'lease') this.#leases.push(effect.answer.leaseId);
    }
  }

  #next(): ClusterEvent {
    const { random } = this;
    const chance = random.next();
    // Orders are carried out about as fast as they are given, and not in their order.
    if (this.#orders.length > 0 && chance < 0.5) return this.#carryOut(take(this.#orders, random));
    if (chance < 0.75) return this.#wantsActor() ? this.#createActor() : this.#endSomething();
    if (chance < 0.85) return this.#requestLease();
    if (chance < 0.92) return this.#endSomething();
    if (chance < 0.95) return this.#block();
    if (chance < 0.97) return this.#createGroup();
    if (chance < 0.98) return this.#submitJob();
    return this.#trouble();
  }

  /** Actors that have not ended. */
  get live(): number {
    return this.state.actors.size - this.state.endedActors.size;
  }

  #wantsActor(): boolean {
    return this.live < this.#size.actors;
  }

  #carryOut({ kind, workerId, nodeId }: Order): ClusterEvent {
    const node = this.state.nodes.get(nodeId);
    if (kind === 'stop' || node?.status === 'dead' || node === undefined)
      return { kind: 'workerExited', workerId, end: { ...END, isIntended: kind === 'stop' } };
    if (this.random.chance(0.02)) return { kind: 'workerExited', workerId, end: END };
    const address = { workerId, nodeId, uds: '', tcp: '' };
    return { kind: 'workerStarted', workerId, address, pid: 1 };
  }

  #endSomething(): ClusterEvent {
    const { random } = this;
    const kind = random.below(6);
    if (kind <= 1 && this.#leases.length > 0) {
      const leaseId = take(this.#leases, random);
      const worker = { isBroken: random.chance(0.1), force: random.chance(0.5) };
      return { kind: 'returnLease', leaseId, worker, request: ++this.#made };
    }
    if (kind === 2 && this.#groups.length > 0)
      return { kind: 'removeGroup', groupId: take(this.#groups, random), request: ++this.#made };
    if (kind === 3 && this.#jobs.length > 0)
      return {
        kind: 'jobExited',
        jobId: take(this.#jobs, random),
        exitCode: random.below(2),
        signal: '',
        failure: null,
      };
    if (kind === 4 && this.#actors.length > 0) {
      const how = { noRestart: random.chance(0.8), graceMs: random.chance(0.3) ? 100 : 0, incarnation: 0 };
      return { kind: 'killActor', actorId: take(this.#actors, random), how, request: ++this.#made };
    }
    return this.#crash();
  }

  #crash(): ClusterEvent {
    const actor = this.#actors.length > 0 ? this.state.actors.get(this.random.pick(this.#actors)) : undefined;
    if (actor?.phase.kind !== 'alive') return this.#createGroup();
    return { kind: 'workerExited', workerId: actor.phase.workerId, end: END };
  }

  #block(): ClusterEvent {
    const lease = this.#leases.length > 0 ? this.state.leases.get(this.random.pick(this.#leases)) : undefined;
    if (lease?.phase.kind !== 'granted') return this.#requestLease();
    const worker = this.state.workers.get(lease.phase.workerId)!;
    const isBlocked = worker.lent === undefined;
    if (!isBlocked) this.overdrawn.add(worker.nodeId);
    return { kind: 'workerBlocked', workerId: worker.workerId, isBlocked };
  }

  #trouble(): ClusterEvent {
    const { random } = this;
    const nodeId = random.pick(this.#nodes);
    const node = this.state.nodes.get(nodeId);
    if (random.chance(0.2)) return { kind: 'clientLeft', workerId: this.#driver(), isClean: random.chance(0.5) };
    if (node?.status === 'away') return random.chance(0.5) ? this.#comesBack(nodeId) : this.#lose(nodeId);
    if (random.chance(0.2))
      return { kind: 'nodeBeat', nodeId, beat: beatWith(random.chance(0.5) ? [random.below(8)] : []) };
    if (random.chance(0.6)) return { kind: 'nodeAway', nodeId };
    if (this.#nodes.length < this.#size.nodes || random.chance(0.3)) return this.#joined();
    return this.#lose(nodeId);
  }

  #lose(nodeId: NodeId): ClusterEvent {
    this.#nodes.splice(this.#nodes.indexOf(nodeId), 1);
    return { kind: 'nodeLost', nodeId, reason: 'it was silent for too long' };
  }

  /** With most of its workers: some ended while it was away. */
  #comesBack(nodeId: NodeId): ClusterEvent {
    const record = this.state.nodes.get(nodeId)!;
    const workers = this.state.workersAt.of(nodeId).flatMap((workerId) => {
      const { purpose, gpus } = this.state.workers.get(workerId)!;
      if (this.random.chance(0.1)) return [];
      const address = { workerId, nodeId, uds: '', tcp: '' };
      return [
        {
          workerId,
          actorId: purpose?.kind === 'actor' ? purpose.actorId : null,
          leaseId: purpose?.kind === 'lease' ? purpose.leaseId : null,
          address,
          pid: 1,
          gpus: gpus ?? [],
        },
      ];
    });
    const jobs = [...this.state.jobs.values()].filter((job) => job.nodeId === nodeId).map(({ jobId }) => jobId);
    return { kind: 'nodeJoined', facts: record, workers, jobs };
  }

  #join(): void {
    this.#send(this.#joined());
  }

  #joined(): ClusterEvent {
    const { random } = this;
    const nodeId = `n${++this.#made}` as NodeId;
    this.#nodes.push(nodeId);
    const total: Record<string, number> = { CPU: random.pick([8, 16, 64]), memory: 64e9 };
    if (random.chance(0.25)) total.GPU = 8;
    if (random.chance(0.1)) total.ssd = 2;
    const facts = {
      nodeId,
      host: '127.0.0.1',
      hostname: nodeId,
      total,
      labels: { zone: `z${random.below(ZONES)}` },
      transfer: '',
      uds: '',
      pid: 1,
      version: '0',
      isHead: false,
    };
    return { kind: 'nodeJoined', facts, workers: [], jobs: [] };
  }

  #driver(): WorkerId {
    return `driver${this.random.below(10 + this.#size.actors / 10)}` as WorkerId;
  }

  #needs(): Resources {
    return this.random.pick<Resources>([
      { CPU: 0.5 },
      { CPU: 1 },
      { CPU: 1 },
      { CPU: 2, memory: 2e9 },
      { CPU: 0.1, GPU: 0.25 },
      { CPU: 0.1, GPU: 0.6 },
      { CPU: 4, GPU: 1 },
      { CPU: 8, GPU: 8 },
      { CPU: 1, ssd: 0.3 },
      {},
    ]);
  }

  #demand() {
    const { random } = this;
    const groupId = this.#groups.length > 0 && random.chance(0.1) ? random.pick(this.#groups) : null;
    const strategies = ['DEFAULT', 'DEFAULT', 'DEFAULT', 'SPREAD', `prefer:${random.pick(this.#nodes)}`];
    const asked = { selector: {}, strategy: 'DEFAULT', locality: [] };
    const inside = random.pick<Resources>([{ CPU: 0.5 }, { CPU: 0.5 }, { CPU: 0.1, GPU: 0.3 }]);
    if (groupId !== null) return demandFor({ ...asked, needs: inside, bundle: { groupId, index: -1 } });
    return demandFor({
      needs: this.#needs(),
      selector: random.chance(0.2) ? { zone: `z${random.below(ZONES)}` } : {},
      ...(random.chance(0.1) ? { fallbacks: [{}] } : {}),
      strategy: random.pick(strategies),
      locality: random.chance(0.2) ? [random.pick(this.#nodes)] : [],
    });
  }

  #createActor(): ClusterEvent {
    const { random } = this;
    const actorId = `a${++this.#made}` as ActorId;
    this.#actors.push(actorId);
    const demand = this.#demand();
    // A few are the actors of other actors: whole trees end together.
    const parent = random.chance(0.05) ? this.state.actors.get(random.pick(this.#actors)) : undefined;
    const ownerId = parent?.phase.kind === 'alive' ? parent.phase.workerId : this.#driver();
    return {
      kind: 'createActor',
      request: ++this.#made,
      actor: {
        actorId,
        className: random.pick(['Worker', 'Rank', 'Queue']),
        code: { module: 'main.js', name: 'Worker', package: '' },
        name: random.chance(0.1) ? `name${random.below(1000)}` : '',
        namespace: 'default',
        jobId: 'job-1' as JobId,
        ownerId,
        isDetached: random.chance(0.05),
        maxRestarts: random.pick([0, 1, -1]),
        waitsIfInfeasible: true,
        demand,
        holds: random.chance(0.3) ? {} : demand.needs,
        payload: new Uint8Array(),
        handle: new Uint8Array(),
        getOrCreate: random.chance(0.5),
      },
    };
  }

  #requestLease(): ClusterEvent {
    return {
      kind: 'requestLease',
      request: ++this.#made,
      lease: {
        leaseId: `l${++this.#made}` as LeaseId,
        ownerId: this.#driver(),
        jobId: 'job-1' as JobId,
        demand: this.#demand(),
        capturesChildren: false,
        isRetriable: true,
        runtimeEnv: { package: '', envVars: {} },
        waitsIfInfeasible: this.random.chance(0.5),
        priority: this.random.pick([0, 0, 0, 5]),
      },
    };
  }

  #createGroup(): ClusterEvent {
    const { random } = this;
    const groupId = `g${++this.#made}` as GroupId;
    this.#groups.push(groupId);
    const needs = random.pick<Resources>([{ CPU: 1 }, { CPU: 2, GPU: 1 }, { CPU: 1, GPU: 0.3 }, { CPU: 8 }]);
    return {
      kind: 'createGroup',
      request: ++this.#made,
      group: {
        groupId,
        name: '',
        namespace: 'default',
        jobId: 'job-1' as JobId,
        ownerId: this.#driver(),
        isDetached: random.chance(0.1),
        waitsIfInfeasible: random.chance(0.5),
        strategy: random.pick(['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD']),
        domain: random.chance(0.2) ? 'zone' : '',
        bundles: Array.from({ length: 1 + random.below(4) }, () => ({ needs, selector: {} })),
      },
    };
  }

  #submitJob(): ClusterEvent {
    const jobId = `j${++this.#made}` as JobId;
    this.#jobs.push(jobId);
    const demand = demandFor({ needs: { CPU: 1 }, selector: {}, strategy: 'DEFAULT', locality: [] });
    const runtimeEnv = { package: '', envVars: {} };
    const job = { jobId, entrypoint: 'node main.js', runtimeEnv, demand, metadata: {} };
    return { kind: 'submitJob', request: ++this.#made, job };
  }
}

/** One of them, which is taken out; the last one moves to its place. */
function take<T>(items: T[], random: Random): T {
  const at = random.below(items.length);
  const item = items[at]!;
  items[at] = items.at(-1)!;
  items.pop();
  return item;
}
