// What is true of the head's state after every event, whatever happened.
import assert from 'node:assert/strict';
import {
  addResources,
  fits,
  type GroupId,
  type LeaseId,
  type NodeId,
  type Resources,
  subtractResources,
} from '#src/common/index.js';
import {
  type ClusterEvent,
  type ClusterState,
  devicesOf,
  type Effect,
  type GpuRoom,
  type GroupRecord,
  type NodeRecord,
  type Place,
  placeBundles,
  type WorkerRecord,
  waitReasons,
} from '#src/head/index.js';
import { scan } from './scan.js';
import type { World } from './world.js';

/** Nothing is started where nothing can start. */
export function checkEffects({ state }: World, event: ClusterEvent, effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind !== 'startWorker' && effect.kind !== 'startJob') continue;
    const node = state.nodes.get(effect.nodeId);
    // An order that is given again, after its node was away, is for the devices that it was for.
    const given = effect.kind === 'startWorker' ? state.workers.get(effect.workerId) : state.jobs.get(effect.jobId);
    if (event.kind !== 'nodeJoined')
      for (const device of given?.gpus ?? [])
        assert.ok(!node!.gpus[device]!.isBroken, `GPU ${device} of ${node!.nodeId}`);
    assert.equal(node?.status, 'connected', `${effect.kind} on ${effect.nodeId}`);
  }
}

/** The nodes that an event or its effects were about count exactly what they hold, and not more than they have. */
export function checkNodes(world: World, nodeIds: Iterable<NodeId>): void {
  const { state } = world;
  const nodes = new Map([...nodeIds].map((nodeId) => [nodeId, state.nodes.get(nodeId)]));
  if (nodes.size === 0) return;
  const workerIds = [...nodes.keys()].flatMap((nodeId) => state.workersAt.of(nodeId));
  const workers = workerIds.map((workerId) => state.workers.get(workerId)!);
  const groups = new Set([...nodes.keys()].flatMap((nodeId) => [...world.groupsAt.of(nodeId)]));
  const held = heldAt(state, workers, groups, (nodeId) => nodes.has(nodeId));
  for (const node of nodes.values()) if (node && node.status !== 'dead') checkNode(world, node, held.get(node.nodeId));
}

/** Everything, by looking at everything. */
export function checkAll(world: World): void {
  const { state } = world;
  const held = heldAt(state, state.workers.values(), state.groups.values());
  for (const node of state.nodes.values()) if (node.status !== 'dead') checkNode(world, node, held.get(node.nodeId));
  world.groupsAt.check();
  checkBundles(world);
  checkLives(state);
  checkRequests(world);
  checkWaiting(state);
}

/** What is held on each node: by these workers outside of bundles, by bundles, by jobs. */
function heldAt(
  state: ClusterState,
  workers: Iterable<WorkerRecord>,
  groups: Iterable<GroupRecord>,
  isAskedFor: (nodeId: NodeId) => boolean = () => true,
): ReadonlyMap<NodeId, Held> {
  const held = new Map<NodeId, Held>();
  const add = (nodeId: NodeId, needs: Resources, devices: readonly number[] = []): void => {
    const here = held.get(nodeId) ?? new Held();
    here.add(needs, devices);
    held.set(nodeId, here);
  };
  for (const worker of workers)
    if (!worker.bundle && isAskedFor(worker.nodeId)) add(worker.nodeId, worker.holds, worker.gpus);
  for (const { places, bundles } of groups)
    for (let index = 0; index < places.length; index += 1) {
      const { nodeId, gpus } = places[index]!;
      if (nodeId !== null && isAskedFor(nodeId)) add(nodeId, bundles[index]!.needs, devicesOf(gpus));
    }
  for (const { type, status, nodeId, demand, gpus } of state.jobs.values())
    if (type === 'SUBMISSION' && status === 'RUNNING' && nodeId !== null && isAskedFor(nodeId))
      add(nodeId, demand.needs, gpus);
  return held;
}

/** Amounts, and of each GPU the share in 1/10,000. */
class Held {
  amounts: Resources = {};
  readonly shares = new Map<number, number>();

  add(needs: Resources, devices: readonly number[]): void {
    this.amounts = addResources(this.amounts, needs);
    const share = Math.round(Math.min(1, needs.GPU ?? 0) * 10_000);
    if (share > 0) assert.equal(devices.length, Math.max(1, needs.GPU!), 'as many devices as GPUs');
    if (share > 0) for (const device of devices) this.shares.set(device, (this.shares.get(device) ?? 0) + share);
  }

  /** No device is given away more than once, and what is left of each is what the head says. */
  check(gpus: GpuRoom, whole: number, where: string): void {
    for (const { device, free } of gpus) {
      const share = this.shares.get(device) ?? 0;
      assert.ok(share <= whole, `GPU ${device} of ${where} is given away ${share} times 1/10,000`);
      assert.equal(Math.round(free * 10_000), whole - share, `GPU ${device} of ${where}`);
    }
    for (const device of this.shares.keys()) assert.ok(devicesOf(gpus).includes(device), `GPU ${device} of ${where}`);
  }
}

function checkNode({ overdrawn }: World, node: NodeRecord, held = new Held()): void {
  assertEqual(node.used, held.amounts, `node ${node.nodeId}`);
  held.check(node.gpus, 10_000, `node ${node.nodeId}`);
  if (!fits(node.used, node.total)) {
    assert.ok(overdrawn.has(node.nodeId), `node ${node.nodeId} holds more than it has`);
    assert.ok(fits({ ...node.used, CPU: 0 }, node.total), 'only CPUs are lent');
  }
}

function checkBundles({ state, overdrawn }: World): void {
  const inside = new Map<GroupId, WorkerRecord[]>();
  for (const worker of state.workers.values()) {
    if (!worker.bundle) continue;
    const workers = inside.get(worker.bundle.groupId) ?? [];
    workers.push(worker);
    inside.set(worker.bundle.groupId, workers);
  }
  for (const group of state.groups.values()) {
    const nodeIds = group.places.map(({ nodeId }) => nodeId);
    assert.equal(group.phase.kind === 'created', !nodeIds.includes(null), 'a group is whole or waits');
    assert.equal(state.pending.has(`group:${group.groupId}`), group.phase.kind !== 'created');
    if (group.phase.kind === 'pending')
      assert.ok(
        nodeIds.every((nodeId) => nodeId === null),
        'all or none',
      );
    if (group.strategy === 'STRICT_SPREAD' && group.phase.kind === 'created')
      assert.equal(new Set(nodeIds).size, nodeIds.length);
    if (group.strategy === 'STRICT_PACK' && group.phase.kind === 'created') assert.equal(new Set(nodeIds).size, 1);
    for (const [index, place] of group.places.entries()) {
      const held = new Held();
      for (const { bundle, holds, gpus = [] } of inside.get(group.groupId) ?? [])
        if (bundle!.index === index) held.add(holds, gpus);
      assertEqual(place.used, held.amounts, `bundle ${index} of ${group.groupId}`);
      held.check(place.gpus, Math.round(10_000 * Math.min(1, group.bundles[index]!.needs.GPU ?? 0)), group.groupId);
      if (place.nodeId !== null && !overdrawn.has(place.nodeId))
        assert.ok(fits(place.used, group.bundles[index]!.needs), 'a bundle is not overfilled');
    }
  }
}

/** Every actor and lease waits, runs or has ended, and what finds them says the same. */
function checkLives(state: ClusterState): void {
  for (const actor of state.actors.values()) {
    const { actorId, phase } = actor;
    assert.equal(state.pending.has(`actor:${actorId}`), phase.kind === 'pending', `${actorId} is ${phase.kind}`);
    assert.equal(state.endedActors.has(actorId), phase.kind === 'dead');
    assert.equal(state.actorsOf.of(actor.ownerId).includes(actorId), phase.kind !== 'dead');
    if (phase.kind === 'dead') assert.notEqual(phase.death.detail, '');
    if (phase.kind === 'starting' || phase.kind === 'alive')
      assert.deepEqual(state.workers.get(phase.workerId)?.purpose, { kind: 'actor', actorId });
  }
  const live = [...state.actors.values()].filter(({ phase }) => phase.kind !== 'dead').map(({ actorId }) => actorId);
  const found = [...new Set([...state.actors.values()].map(({ jobId }) => jobId))].flatMap((jobId) =>
    state.actorsOfJob.of(jobId),
  );
  assert.deepEqual([...found].sort(), live.sort(), 'the actors of jobs');
  for (const [name, actorId] of state.names) {
    const actor = state.actors.get(actorId)!;
    assert.equal(`${actor.namespace}/${actor.name}`, name);
    assert.notEqual(actor.phase.kind, 'dead');
  }
  for (const { leaseId, ownerId, phase } of state.leases.values()) {
    assert.equal(state.pending.has(`lease:${leaseId}`), phase.kind === 'pending');
    assert.ok(state.leasesOf.of(ownerId).includes(leaseId));
    if (phase.kind !== 'pending')
      assert.deepEqual(state.workers.get(phase.workerId)?.purpose, { kind: 'lease', leaseId });
  }
  for (const worker of state.workers.values()) {
    assert.ok(state.workersAt.of(worker.nodeId).includes(worker.workerId));
    assert.notEqual(state.nodes.get(worker.nodeId)?.status ?? 'dead', 'dead');
    if (worker.bundle) assert.ok(state.workersIn.of(worker.bundle.groupId).includes(worker.workerId));
  }
}

/** Who waits for an answer still has something that will bring it. */
function checkRequests({ state, open }: World): void {
  for (const [request, event] of open) {
    if (event.kind === 'requestLease') {
      const phase = state.leases.get(event.lease.leaseId as LeaseId)?.phase;
      // A process that ended hears no answer.
      if (phase) assert.equal('request' in phase && phase.request, request, `lease ${event.lease.leaseId}`);
    } else if (event.kind === 'returnLease') {
      assert.ok([...state.endQuestions.values()].includes(request), `return of ${event.leaseId}`);
    } else {
      assert.fail(`${event.kind} was not answered`);
    }
  }
}

/** What waits could not run anywhere, and there is a reason to show for it. */
function checkWaiting(state: ClusterState): void {
  const nodes = [...state.nodes.values()].filter((node) => node.status !== 'dead');
  const reasons = waitReasons(state);
  const tried = new Set<string>();
  for (const key of state.pending.keys()) {
    assert.match(reasons(key), /waits|asks|which no node|was removed/, key);
    const shape = state.pending.shapeOf(key)!;
    if (tried.has(shape)) continue;
    tried.add(shape);
    const [kind, id] = key.split(':') as [string, string];
    if (kind === 'group') {
      const group = state.groups.get(id as never)!;
      const bundles = group.bundles.map((bundle, index) => ({ ...bundle, nodeId: group.places[index]!.nodeId }));
      assert.equal(placeBundles({ ...group, bundles }, nodes), null, `${key} could be created`);
      continue;
    }
    const record = { actor: state.actors, lease: state.leases, job: state.jobs }[kind]!.get(id as never)!;
    if (record.demand.bundle) continue;
    const found = scan(record.demand, nodes, () => 0);
    assert.ok(found === 'wait' || found === 'infeasible', `${key} could run on ${found}`);
  }
}

/** Exactly: not to within something. An absent name is 0. */
function assertEqual(one: Resources, other: Resources, where: string): void {
  for (const name of new Set([...Object.keys(one), ...Object.keys(other)]))
    assert.equal(one[name] ?? 0, other[name] ?? 0, `${name} of ${where}`);
  assert.deepEqual(subtractResources(one, other), subtractResources(one, one), where);
}

/** Where something happened. */
export function nodesOf(state: ClusterState, effects: readonly Effect[]): ReadonlySet<NodeId> {
  const nodeIds = new Set<NodeId>();
  for (const effect of effects) if ('nodeId' in effect) nodeIds.add((effect as Place).nodeId);
  for (const nodeId of nodeIds) if (!state.nodes.has(nodeId)) nodeIds.delete(nodeId);
  return nodeIds;
}
