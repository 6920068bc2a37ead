// Placement groups: how bundles are laid out, what happens to them and to what runs in them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActorId, GroupId, JobId, NodeId, WorkerId } from '#src/common/index.js';
import { waitReason } from '#src/head/index.js';
import { type Scenario, scenario } from './scenario.js';

const CPU = (amount: number) => ({ CPU: amount });
const remove = (cluster: Scenario, id: string) =>
  cluster.send({ kind: 'removeGroup', groupId: id as GroupId, request: 9 });
const lose = (cluster: Scenario, id: string) =>
  cluster.send({ kind: 'nodeLost', nodeId: id as NodeId, reason: 'it burnt' });
const used = (cluster: Scenario, id: string) => cluster.state.nodes.get(id as NodeId)!.used.CPU ?? 0;

/** Nodes a, b, c … of so many CPUs each. */
function cluster(...cpus: readonly number[]): Scenario {
  const made = scenario();
  for (const [index, amount] of cpus.entries()) made.node('abcdef'[index]!, CPU(amount));
  return made;
}

test('PACK takes few nodes, SPREAD many, STRICT_PACK one, STRICT_SPREAD one for each', () => {
  const at = (strategy: 'PACK' | 'SPREAD' | 'STRICT_PACK' | 'STRICT_SPREAD', count: number, ...cpus: number[]) => {
    const nodes = cluster(...cpus);
    const lines = nodes.group('g', Array(count).fill(CPU(1)), { strategy });
    return nodes.state.groups.has('g' as GroupId) ? nodes.placesOf('g').join('') : lines[0];
  };
  assert.equal(at('PACK', 4, 2, 4, 2), 'bbbb');
  assert.equal(at('PACK', 5, 2, 3, 2), 'bbbaa');
  assert.equal(at('SPREAD', 3, 4, 4, 4), 'abc');
  assert.equal(at('SPREAD', 5, 4, 4, 4), 'abcab');
  assert.equal(at('STRICT_PACK', 3, 2, 8, 3), 'ccc', 'the node that is fullest then');
  assert.equal(at('STRICT_SPREAD', 3, 1, 1, 1), 'abc');
  assert.equal(
    at('STRICT_SPREAD', 3, 4, 4),
    'refuse: the placement group asks for bundles of 3 × 1 CPU each on a node of its own, which the nodes can never hold. The cluster has node a (host-a): 4 CPU; node b (host-b): 4 CPU',
  );
  assert.match(at('STRICT_PACK', 3, 2, 2)!, /^refuse: the placement group asks for bundles of 3 × 1 CPU on one node/);
});

test('STRICT_SPREAD finds an arrangement wherever there is one', () => {
  const nodes = cluster(4, 2, 1);
  nodes.group('g', [CPU(1), CPU(2), CPU(4)], { strategy: 'STRICT_SPREAD' });
  assert.deepEqual(nodes.placesOf('g'), ['c', 'b', 'a']);
  const labelled = scenario();
  for (const zone of ['east', 'west']) labelled.node(zone, CPU(2), { labels: { zone } });
  labelled.group('g', [CPU(1), CPU(1)], { strategy: 'STRICT_SPREAD', selectors: [{}, { zone: 'east' }] });
  assert.deepEqual(labelled.placesOf('g'), ['west', 'east']);
});

test('all nodes of a group have the same value of its topology domain', () => {
  const racks = scenario();
  racks.node('a', CPU(1), { labels: { rack: '1' } });
  racks.node('b', CPU(1), { labels: { rack: '2' } });
  racks.node('c', CPU(1), { labels: { rack: '2' } });
  racks.node('d', CPU(9));
  racks.group('g', [CPU(1), CPU(1)], { domain: 'rack' });
  assert.deepEqual(racks.placesOf('g'), ['b', 'c']);
  assert.match(
    racks.group('h', [CPU(1), CPU(1), CPU(1)], { domain: 'rack' })[0]!,
    /one value of the label rack, which/,
  );
  lose(racks, 'c');
  racks.node('e', CPU(1), { labels: { rack: '1' } });
  assert.deepEqual(racks.placesOf('g'), ['b', '-'], 'what is left stays in its rack');
  racks.node('f', CPU(1), { labels: { rack: '2' } });
  assert.deepEqual(racks.placesOf('g'), ['b', 'f']);
});

test('all bundles are set aside or none, and whoever waits hears when they are', () => {
  const nodes = cluster(2, 2);
  nodes.actor('first', { needs: CPU(2) });
  assert.deepEqual(nodes.group('g', [CPU(2), CPU(2)]), ['save group g', 'group g']);
  assert.deepEqual([used(nodes, 'a'), used(nodes, 'b')], [2, 0], 'half a group holds nothing');
  assert.equal(
    waitReason(nodes.state, 'group:g'),
    'waits for bundles of 2 × 2 CPU on few nodes. Free is node a (host-a): nothing; node b (host-b): 2 CPU',
  );
  assert.deepEqual(nodes.send({ kind: 'awaitGroup', groupId: 'g' as GroupId, request: 7 }), []);
  assert.ok(nodes.crash('first').join().endsWith('save group g,group g'));
  assert.deepEqual([used(nodes, 'a'), used(nodes, 'b')], [2, 2]);
});

test('what runs in a bundle holds of it, and waits when others use it', () => {
  const nodes = cluster(4);
  nodes.group('g', [CPU(1), CPU(2)]);
  assert.ok(nodes.actor('one', { bundle: ['g', 1], needs: CPU(2) }).includes('start one on a as w1'));
  assert.deepEqual(nodes.lease('two', CPU(1), { bundle: ['g', 1] }), []);
  assert.deepEqual(nodes.lease('any', CPU(1), { bundle: ['g', -1] }), ['start any on a as w2']);
  assert.equal(used(nodes, 'a'), 3, 'the bundles, whatever runs in them');
  assert.ok(nodes.crash('one').includes('start two on a as w3'));
  assert.deepEqual(nodes.lease('large', CPU(3), { bundle: ['g', -1], waits: true }), [
    'refuse: the task asks for 3 CPU in a bundle of placement group g, which holds 1 CPU or 2 CPU',
  ]);
  assert.match(
    nodes.lease('there', CPU(1), { bundle: ['h', 0] })[0]!,
    /^refuse: placement group h was removed, or never/,
  );
});

test('a removed group ends what runs in it; the rest of its room is free at once', () => {
  const nodes = cluster(4);
  nodes.group('g', [CPU(2), CPU(2)]);
  nodes.actor('hits', { bundle: ['g', 0], maxRestarts: 5 });
  nodes.ready('hits');
  nodes.lease('waits', CPU(2), { bundle: ['g', 0] });
  assert.deepEqual(remove(nodes, 'g'), [
    'forget group g',
    'save actor hits',
    'stop w1 on a by force',
    'hits is dead: its placement group g was removed',
    'refuse: placement group g was removed, or never was',
    'done',
  ]);
  assert.equal(used(nodes, 'a'), 1, 'until its process is gone');
  const end = { detail: 'killed', exitCode: null, signal: 'SIGKILL', lastLogLines: [], isIntended: false, cause: null };
  nodes.send({ kind: 'workerExited', workerId: 'w1' as WorkerId, end });
  assert.equal(used(nodes, 'a'), 0);
  assert.deepEqual(remove(nodes, 'g'), ['done']);
});

test('bundles of a lost node are set aside elsewhere, and actors with restarts follow them', () => {
  const nodes = cluster(2, 2);
  nodes.group('g', [CPU(2), CPU(2)], { strategy: 'STRICT_SPREAD' });
  nodes.actor('kept', { bundle: ['g', 0], maxRestarts: 1 });
  nodes.actor('moves', { bundle: ['g', 1], maxRestarts: 1 });
  nodes.ready('kept');
  nodes.ready('moves');
  lose(nodes, 'b');
  assert.deepEqual(nodes.placesOf('g'), ['a', '-']);
  assert.equal(
    waitReason(nodes.state, 'actor:moves'),
    'waits for 1 CPU in bundle 1 of placement group g, which waits for room',
  );
  assert.deepEqual(nodes.node('c', CPU(2)).slice(-4), [
    'save group g',
    'save actor moves',
    'start moves on c as w3',
    'moves is starting',
  ]);
  assert.deepEqual(nodes.placesOf('g'), ['a', 'c']);
  assert.equal(nodes.state.actors.get('kept' as ActorId)!.phase.kind, 'alive');
});

test('a group ends with its creator, a detached one stays; a name belongs to one group at a time', () => {
  const nodes = cluster(4);
  const client = {
    workerId: 'driver' as WorkerId,
    isDriver: true,
    jobId: 'job-1' as JobId,
    namespace: 'default',
    nodeId: null,
  };
  nodes.send({ kind: 'clientJoined', client, entrypoint: '' });
  nodes.group('mine', [CPU(1)], { name: 'one' });
  nodes.group('kept', [CPU(1)], { name: 'two', isDetached: true });
  assert.match(nodes.group('again', [CPU(1)], { name: 'one' })[0]!, /^refuse: name: expected a name that no placement/);
  assert.ok(nodes.send({ kind: 'clientLeft', workerId: client.workerId, isClean: true }).includes('forget group mine'));
  assert.deepEqual([...nodes.state.groups.keys()], ['kept']);
  assert.equal(used(nodes, 'a'), 1);
});

test('a group that no nodes could hold waits for them, if it was asked to', () => {
  const nodes = cluster(1);
  assert.deepEqual(nodes.group('g', [CPU(1), CPU(1)], { waits: true }), ['save group g', 'group g']);
  nodes.node('b', CPU(1));
  assert.deepEqual(nodes.placesOf('g'), ['a', 'b']);
});
