// Nodes that are told to leave: nothing new goes there, what runs has its time, and the node ends when it is over or nothing is left.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActorId, NodeId, WorkerId } from '#src/common/index.js';
import { beatWith, type Scenario, scenario } from './scenario.js';

const nodeId = (id: string): NodeId => id as NodeId;
const beat = (cluster: Scenario, id: string): string[] =>
  cluster.send({ kind: 'nodeBeat', nodeId: nodeId(id), beat: beatWith([]) });

test('nothing new is placed on a node that is to leave; what runs goes on, and the node ends once it has ended', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits');
  cluster.ready('hits');
  assert.deepEqual(cluster.drain('a'), ['save node a', 'leaving: a', 'done']);
  assert.deepEqual(cluster.actor('late'), ['save actor late', 'accept late'], 'it waits');
  assert.deepEqual(cluster.group('g', [{ CPU: 1 }]), ['save group g', 'group g']);
  assert.deepEqual(cluster.placesOf('g'), ['-']);
  assert.deepEqual(beat(cluster, 'a'), [], 'something runs there');
  cluster.node('b');
  assert.deepEqual(cluster.placesOf('g'), ['b']);
  assert.equal(cluster.state.workers.get(cluster.workerOf('late'))!.nodeId, 'b');
  cluster.send({
    kind: 'killActor',
    actorId: 'hits' as ActorId,
    how: { noRestart: true, graceMs: 0, incarnation: 0 },
    request: 1,
  });
  assert.deepEqual(beat(cluster, 'a'), ['save node a', 'free a', 'leaving: none']);
  assert.match(cluster.state.nodes.get(nodeId('a'))!.endReason!, /^it was drained \(preemption: the machine is taken/);
});

test('when its time is over what still runs there is lost; an actor starts elsewhere, and no restart is counted', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits', { maxRestarts: 1 });
  cluster.ready('hits');
  cluster.node('b');
  cluster.drain('a', 10);
  assert.deepEqual(cluster.send({ kind: 'nodeOverdue', nodeId: nodeId('a') }), [], 'not yet');
  cluster.drain('a', 0); // another order replaces the first
  const lines = cluster.send({ kind: 'nodeOverdue', nodeId: nodeId('a') });
  assert.deepEqual(lines.slice(0, 3), ['save node a', 'free a', 'leaving: none']);
  assert.ok(lines.includes('start hits on b as w2'), lines.join('; '));
  assert.equal(cluster.state.actors.get('hits' as ActorId)!.restartCount, 0);
  assert.deepEqual(cluster.send({ kind: 'nodeOverdue', nodeId: nodeId('a') }), [], 'it is lost once');
  assert.deepEqual(cluster.node('a'), ['free a'], 'back from the dead it is told to end');
});

test('a node that greets again while it is to leave still is', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.job('tune');
  cluster.drain('a', 1000);
  cluster.send({ kind: 'nodeAway', nodeId: nodeId('a') });
  cluster.node('a', { CPU: 2 }, { jobs: ['tune'] });
  assert.deepEqual(cluster.lease('l1'), []);
  assert.deepEqual(beat(cluster, 'a'), [], 'a job runs there');
});

test('a driver on the node counts as what runs there, also one that has not come back to a head that was started again', () => {
  const cluster = scenario();
  cluster.node('a');
  const join = (where: NodeId | null): string[] =>
    cluster.send({
      kind: 'clientJoined',
      client: { workerId: 'd' as WorkerId, isDriver: true, jobId: 'job-9' as never, namespace: '', nodeId: where },
      entrypoint: 'main.js',
    });
  join(null);
  cluster.drain('a');
  assert.deepEqual(beat(cluster, 'a'), []);
  join(nodeId('a'));
  assert.deepEqual(beat(cluster, 'a'), []);
  cluster.send({ kind: 'clientLeft', workerId: 'd' as WorkerId, isClean: true });
  assert.ok(beat(cluster, 'a').includes('free a'));
});

test('an unknown node, a dead one, and one that is not idle where that was said are refused', () => {
  const cluster = scenario();
  cluster.node('a');
  assert.match(cluster.drain('b')[0]!, /^refuse: nodeId: expected a node of the cluster, got "b"/);
  cluster.actor('hits');
  assert.match(
    cluster.drain('a', 1000, 'idle-termination')[0]!,
    /^refuse: reason: expected "preemption" for a node on/,
  );
  cluster.send({ kind: 'nodeLost', nodeId: nodeId('a'), reason: 'silent' });
  assert.match(cluster.drain('a')[0]!, /^refuse: nodeId/);
  cluster.node('c');
  assert.deepEqual(cluster.drain('c', 1000, 'idle-termination'), ['save node c', 'leaving: c', 'done']);
});

test('workers between two leases end, and none is passed on there', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('l1', { CPU: 1 }, { owner: 'one' });
  cluster.ready('l1');
  cluster.lease('l2', { CPU: 1 }, { owner: 'two' });
  cluster.drain('a');
  const lines = cluster.giveBack('l1');
  assert.ok(!lines.some((line) => line.startsWith('grant')), lines.join('; '));
  assert.ok(beat(cluster, 'a').includes('free a'));
});
