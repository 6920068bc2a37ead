// The head's decisions on actors as event scripts: what goes in, and the effects that come out. Leases, jobs and nodes stand beside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActorId, GroupId, JobId, LeaseId, NodeId, WorkerId } from '#src/common/index.js';
import { ENDED_ACTORS_MAX, LEASE_ENDS_MAX, step, waitReason } from '#src/head/index.js';
import { scenario } from './scenario.js';

const actorId = (id: string): ActorId => id as ActorId;
const nodeId = (id: string): NodeId => id as NodeId;

test('an actor is on disk before its client hears of it, then it is started', () => {
  const cluster = scenario();
  cluster.node('a');
  assert.deepEqual(cluster.actor('hits'), [
    'save actor hits',
    'accept hits',
    'save actor hits',
    'start hits on a as w1',
    'hits is starting',
  ]);
  assert.deepEqual(cluster.ready('hits'), ['save actor hits', 'hits is alive']);
});

test('the same actor asked for twice is one actor', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits');
  assert.deepEqual(cluster.actor('hits'), ['accept hits']);
});

test('what no node can ever hold is refused at once, with what the cluster has', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  assert.deepEqual(cluster.actor('big', { needs: { GPU: 4 } }), [
    'refuse: actor big asks for 4 GPU, which no node can ever hold. The cluster has node a (host-a): 2 CPU',
  ]);
  assert.equal(cluster.state.actors.size, 0);
});

test('work that does not fit now waits with a reason and runs when there is room', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.actor('first');
  cluster.ready('first');
  assert.deepEqual(cluster.actor('second'), ['save actor second', 'accept second']);
  assert.equal(cluster.state.actors.get(actorId('second'))!.phase.kind, 'pending');
  assert.equal(waitReason(cluster.state, 'actor:second'), 'waits for 1 CPU: node a has 0 of 1 CPU free');
  assert.deepEqual(cluster.crash('first'), [
    'save actor first',
    'first is dead: its process was ended by SIGKILL',
    'save actor second',
    'start second on a as w2',
    'second is starting',
  ]);
});

test("when a worker or driver ends, all nodes hear that what it owned is nobody's", () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.lease('work');
  cluster.ready('work');
  const client = { workerId: 'd' as WorkerId, isDriver: true, jobId: 'job-1' as JobId, namespace: '', nodeId: null };
  cluster.send({ kind: 'clientJoined', client, entrypoint: '' });
  const workerId = cluster.workerOf('work');
  cluster.send({
    kind: 'returnLease',
    leaseId: 'work' as LeaseId,
    worker: { isBroken: false, force: false },
    request: null,
  });
  const end = {
    detail: 'its process exited with code 0',
    exitCode: 0,
    signal: null,
    lastLogLines: [],
    isIntended: true,
    cause: null,
  };
  const exited = step(cluster.state, { kind: 'workerExited', workerId, end }, 1);
  assert.deepEqual(exited, [{ kind: 'ownerGone', workerId }]);
  const left = step(cluster.state, { kind: 'clientLeft', workerId: client.workerId, isClean: true }, 2);
  assert.ok(left.some((effect) => effect.kind === 'ownerGone' && effect.workerId === 'd'));
});

test('an actor that declares nothing needs one CPU to be placed and holds none', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  for (const id of ['one', 'two', 'three']) {
    assert.ok(cluster.actor(id, { needs: { CPU: 1 }, holds: {} }).some((line) => line.startsWith(`start ${id}`)));
  }
});

test('SPREAD evens out the actors of one class, whatever else runs and whatever is ending', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 8 });
  cluster.node('b', { CPU: 8 });
  cluster.lease('task-1');
  cluster.lease('task-2');
  const rank = (id: string) =>
    cluster.actor(id, { className: 'Rank', strategy: 'SPREAD' }).find((line) => line.startsWith('start'));
  assert.deepEqual(['r0', 'r1'].map(rank), ['start r0 on b as w3', 'start r1 on a as w4']);
  cluster.crash('r1');
  cluster.send({
    kind: 'killActor',
    actorId: actorId('r0'),
    how: { noRestart: true, graceMs: 0, incarnation: 0 },
    request: 1,
  });
  assert.deepEqual(['r2', 'r3'].map(rank), ['start r2 on b as w5', 'start r3 on a as w6']);
});

test('an actor restarts as often as it may, then dies and says so', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits', { maxRestarts: 1 });
  cluster.ready('hits');
  assert.deepEqual(cluster.crash('hits'), [
    'save actor hits',
    'hits is starting',
    'save actor hits',
    'start hits on a as w2',
    'hits is starting',
  ]);
  cluster.ready('hits');
  assert.deepEqual(cluster.crash('hits'), [
    'save actor hits',
    'hits is dead: its process was ended by SIGKILL; all 1 restarts were used',
  ]);
  assert.deepEqual(cluster.state.nodes.get(nodeId('a'))!.used, { CPU: 0 });
});

test('actors end with the process that made them, detached ones stay', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('mine', { owner: 'd1', needs: {} });
  cluster.actor('kept', { owner: 'd1', needs: {}, isDetached: true });
  cluster.ready('mine');
  cluster.ready('kept');
  const client = {
    workerId: 'd1' as WorkerId,
    isDriver: true,
    jobId: 'job-1' as JobId,
    namespace: 'default',
    nodeId: null,
  };
  cluster.send({ kind: 'clientJoined', client, entrypoint: 'node main.js' });
  assert.deepEqual(cluster.send({ kind: 'clientLeft', workerId: client.workerId, isClean: true }), [
    'save actor mine',
    'stop w1 on a by force',
    'mine is dead: its driver ended (job job-1)',
    'save job job-1',
    'job-1 is SUCCEEDED',
  ]);
  assert.equal(cluster.state.actors.get(actorId('kept'))!.phase.kind, 'alive');
});

test('a name belongs to one live actor of a namespace at a time', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('one', { name: 'hits' });
  assert.match(cluster.actor('two', { name: 'hits' })[0]!, /^refuse: name: expected a name that no live actor/);
  cluster.send({
    kind: 'killActor',
    actorId: actorId('one'),
    how: { noRestart: true, graceMs: 0, incarnation: 0 },
    request: null,
  });
  assert.ok(cluster.actor('three', { name: 'hits' }).includes('accept three'));
});

test('what has ended leaves only so much behind, however much it was', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 4 });
  const { state } = cluster;
  let made = 0;
  const work = (rounds: number): void => {
    for (let round = 0; round < rounds; round += 1) {
      made += 1;
      cluster.actor(`actor-${made}`, { name: `name-${made}`, owner: `owner-${made}` });
      cluster.ready(`actor-${made}`);
      cluster.crash(`actor-${made}`);
      cluster.lease(`lease-${made}`, { CPU: 1 }, { owner: `owner-${made}` });
      cluster.ready(`lease-${made}`);
      if (made % 2 === 0) cluster.giveBack(`lease-${made}`);
      else cluster.crash(`lease-${made}`);
      cluster.group(`group-${made}`, [{ CPU: 1 }]);
      cluster.send({ kind: 'removeGroup', groupId: `group-${made}` as GroupId, request: null });
      cluster.node(`node-${made}`);
      cluster.send({ kind: 'nodeLost', nodeId: nodeId(`node-${made}`), reason: 'it left' });
      cluster.send({ kind: 'clientLeft', workerId: `owner-${made}` as WorkerId, isClean: true });
    }
  };
  const sizes = (): unknown =>
    Object.entries(state).map(([name, part]) => [name, (part as { readonly size?: number } | null)?.size]);
  work(2 * LEASE_ENDS_MAX);
  const before = sizes();
  assert.equal(state.actors.size, ENDED_ACTORS_MAX);
  work(200);
  assert.deepEqual(sizes(), before);
});

test('a name that is taken gives its actor to whoever asks for it or a new one', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  cluster.actor('first', { name: 'hits' });
  cluster.ready('first');
  assert.deepEqual(cluster.actor('second', { name: 'hits', getOrCreate: true }), ['accept first']);
});

test('a kill that comes twice does not end what was started again meanwhile', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  cluster.actor('x', { maxRestarts: 3 });
  cluster.ready('x');
  const kill = () =>
    cluster.send({
      kind: 'killActor',
      actorId: 'x' as ActorId,
      how: { noRestart: false, graceMs: 0, incarnation: 1 },
      request: 1,
    });
  assert.deepEqual(kill(), ['stop w1 on a by force', 'accept x']);
  cluster.crash('x');
  cluster.ready('x');
  assert.deepEqual(kill(), ['accept x']);
});
