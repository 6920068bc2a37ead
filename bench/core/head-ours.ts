// The head's rules by themselves, with nobody at the other ends: decisions at 2,000 nodes, the simulation with 40,000
// actors, and what the head remembers after much work. One sample per line on standard input.
import { createInterface } from 'node:readline';
import type { ActorId, JobId, LeaseId, NodeId, WorkerId } from '#src/common/index.js';
import { type ClusterState, createClusterState, type Demand, demandFor, type Effect, step } from '#src/head/index.js';
import { checkAll, checkEffects, checkNodes, nodesOf } from '../../test/head/simulation/invariants.js';
import { World } from '../../test/head/simulation/world.js';

const SAMPLE_MS = 1000;
const NODES = 2_000;
/** Leases that are held while more are asked for. */
const HELD = 8_000;
const ASKED: readonly Omit<Demand, 'shape' | 'locality'>[] = [
  { needs: { CPU: 1 }, selector: {}, strategy: 'DEFAULT' },
  { needs: { CPU: 2, memory: 1e9 }, selector: {}, strategy: 'DEFAULT' },
  { needs: { CPU: 1, GPU: 1 }, selector: {}, strategy: 'DEFAULT' },
  { needs: { CPU: 1 }, selector: { zone: 'z3' }, strategy: 'DEFAULT' },
  { needs: { CPU: 0.5 }, selector: {}, strategy: 'SPREAD' },
];
const KINDS = ASKED.map((asked) => demandFor({ ...asked, locality: [] }));

function cluster(nodes: number): ClusterState {
  let workers = 0;
  const state = createClusterState(() => `w${++workers}` as WorkerId);
  for (let node = 0; node < nodes; node += 1) {
    const nodeId = `n${node}` as NodeId;
    const total = { CPU: 16, memory: 64e9, ...(node % 4 === 0 ? { GPU: 8 } : {}) };
    const where = { host: '', transfer: '', uds: '', pid: 1, version: '0', isHead: false };
    const facts = { nodeId, hostname: nodeId, total, labels: { zone: `z${node % 10}` }, ...where };
    step(state, { kind: 'nodeJoined', facts, workers: [], jobs: [] }, 0);
  }
  return state;
}

/** Asks for a lease, has its worker start, and gives back the one that was asked for `held` before. */
class Leases {
  readonly #state: ClusterState;
  #asked = 0;

  constructor(state: ClusterState) {
    this.#state = state;
  }
  turn(held: number): void {
    const number = ++this.#asked;
    const effects = step(
      this.#state,
      {
        kind: 'requestLease',
        request: 1,
        lease: {
          leaseId: `l${number}` as LeaseId,
          ownerId: `driver${number % 100}` as WorkerId,
          jobId: 'job-1' as JobId,
          demand: KINDS[number % KINDS.length]!,
          capturesChildren: false,
          isRetriable: true,
          runtimeEnv: { package: '', envVars: {} },
          waitsIfInfeasible: false,
          priority: 0,
        },
      },
      0,
    );
    start(this.#state, effects);
    if (number <= held) return;
    const leaseId = `l${number - held}` as LeaseId;
    const worker = { isBroken: false, force: false };
    step(this.#state, { kind: 'returnLease', leaseId, worker, request: 1 }, 0);
  }
}

function start(state: ClusterState, effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind !== 'startWorker') continue;
    const { workerId, nodeId } = effect;
    step(state, { kind: 'workerStarted', workerId, address: { workerId, nodeId, uds: '', tcp: '' }, pid: 1 }, 0);
  }
}

/** Placements per second, each with its request, its start and its return. */
function decisions(): number {
  const leases = new Leases(cluster(NODES));
  for (let number = 0; number < HELD; number += 1) leases.turn(HELD);
  const begin = performance.now();
  let count = 0;
  while (performance.now() - begin < SAMPLE_MS) {
    for (let number = 0; number < 1000; number += 1) leases.turn(HELD);
    count += 1000;
  }
  return count / ((performance.now() - begin) / 1000);
}

/** Events per second until 40,000 actors live on 2,000 nodes, with all checks. */
function simulation(): number {
  const world = new World({ seed: 1, nodes: NODES, actors: 40_000 });
  const begin = performance.now();
  while (world.live < 40_000) {
    const { event, effects } = world.advance();
    checkEffects(world, event, effects);
    checkNodes(world, nodesOf(world.state, effects));
    if (world.events % 50_000 === 0) checkAll(world);
  }
  checkAll(world);
  return world.events / ((performance.now() - begin) / 1000);
}

/** MiB of heap with 10,000 live actors, after as many have ended ten times over and 1,000,000 leases came and went. */
function memory(): number {
  const state = cluster(1);
  const before = heapBytes();
  for (let number = 0; number < 110_000; number += 1) {
    const actorId = `a${number}` as ActorId;
    start(state, step(state, { kind: 'createActor', request: 1, actor: actorOf(actorId) }, 0));
    if (number < 10_000) continue;
    const how = { noRestart: true, graceMs: 0, incarnation: 0 };
    const phase = state.actors.get(`a${number - 10_000}` as ActorId)!.phase;
    step(state, { kind: 'killActor', actorId: `a${number - 10_000}` as ActorId, how, request: 1 }, 0);
    if (phase.kind !== 'alive') continue;
    const end = { detail: 'killed', exitCode: 0, signal: null, lastLogLines: [], isIntended: true, cause: null };
    step(state, { kind: 'workerExited', workerId: phase.workerId, end }, 0);
  }
  const leases = new Leases(state);
  for (let number = 0; number < 1_000_000; number += 1) leases.turn(8);
  return (heapBytes() - before) / 2 ** 20;
}

const actorOf = (actorId: ActorId) => ({
  actorId,
  className: 'Counter',
  code: { module: '/app/counter.js', name: 'Counter', package: '' },
  name: '',
  namespace: 'default',
  jobId: 'job-1' as JobId,
  ownerId: 'driver' as WorkerId,
  isDetached: false,
  maxRestarts: 0,
  waitsIfInfeasible: false,
  demand: demandFor({ needs: { CPU: 1 }, selector: {}, strategy: 'DEFAULT', locality: [] }),
  holds: {},
  payload: new Uint8Array(500),
  handle: new Uint8Array(50),
  getOrCreate: false,
});

function heapBytes(): number {
  globalThis.gc!();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}

const FIGURES: Readonly<Record<string, () => number>> = { decisions, simulation, memory };

console.log(JSON.stringify({ ready: 'raylite' }));
for await (const line of createInterface(process.stdin)) {
  console.log(JSON.stringify({ value: FIGURES[line.trim()]!() }));
}
