// The head's decisions as event scripts: what goes in, and the effects that come out.
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

test('a worker that waits for objects lends its CPUs, and takes them again without waiting', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('outer', { CPU: 1, memory: 0 });
  cluster.ready('outer');
  const outer = cluster.workerOf('outer');
  assert.deepEqual(cluster.lease('inner'), []);
  assert.deepEqual(cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: true }), [
    'start inner on a as w2',
  ]);
  assert.deepEqual(cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: true }), []);
  cluster.ready('inner');
  assert.deepEqual(cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: false }), []);
  assert.equal(cluster.state.nodes.get(nodeId('a'))?.used.CPU, 2);
  cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: true });
  cluster.crash('outer');
  cluster.crash('inner');
  assert.equal(cluster.state.nodes.get(nodeId('a'))?.used.CPU, 0);
});

test("when a worker or driver ends, all nodes hear that what it owned is nobody's", () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.lease('work');
  cluster.ready('work');
  const client = { workerId: 'd' as WorkerId, isDriver: true, jobId: 'job-1' as JobId, namespace: '' };
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

test('with no node at all, work waits for the first one', () => {
  const cluster = scenario();
  assert.deepEqual(cluster.actor('early'), ['save actor early', 'accept early']);
  assert.ok(cluster.node('a').includes('start early on a as w1'));
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

test('a silent node loses its actors, which start again elsewhere; back from the dead it is told to end', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits', { maxRestarts: 1 });
  cluster.ready('hits');
  cluster.node('b');
  const lines = cluster.send({ kind: 'nodeLost', nodeId: nodeId('a'), reason: 'silent for 10 s' });
  assert.deepEqual(lines, [
    'save node a',
    'free a',
    'save actor hits',
    'hits is starting',
    'save actor hits',
    'start hits on b as w2',
    'hits is starting',
  ]);
  assert.deepEqual(cluster.node('a', { CPU: 2 }, { workers: ['w1'] }), ['free a']);
});

test('a node that is away for a moment keeps what it runs', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits');
  cluster.ready('hits');
  cluster.send({ kind: 'nodeAway', nodeId: nodeId('a') });
  assert.deepEqual(cluster.lease('l1'), [], 'nothing is placed on a node that is away');
  assert.deepEqual(cluster.node('a', { CPU: 2 }, { workers: ['w1'] }), ['save node a', 'start l1 on a as w2']);
  assert.equal(cluster.state.actors.get(actorId('hits'))!.phase.kind, 'alive');
});

test('a worker that nobody knows is stopped when its node comes back', () => {
  const cluster = scenario();
  cluster.node('a');
  assert.deepEqual(cluster.node('a', { CPU: 2 }, { workers: ['stray'] }), ['save node a', 'stop stray on a by force']);
});

test('what was to end while its node was away is told so when it comes back', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('hits');
  cluster.ready('hits');
  cluster.job('tune');
  cluster.send({ kind: 'nodeAway', nodeId: nodeId('a') });
  cluster.send({
    kind: 'killActor',
    actorId: actorId('hits'),
    how: { noRestart: true, graceMs: 0, incarnation: 0 },
    request: 1,
  });
  cluster.send({ kind: 'stopJob', jobId: 'tune' as JobId, request: 2 });
  assert.deepEqual(cluster.node('a', { CPU: 2 }, { workers: ['w1'], jobs: ['tune', 'unknown'] }), [
    'save node a',
    'stop w1 on a by force',
    'stop tune on a',
    'stop unknown on a',
  ]);
});

test('actors end with the process that made them, detached ones stay', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.actor('mine', { owner: 'd1', needs: {} });
  cluster.actor('kept', { owner: 'd1', needs: {}, isDetached: true });
  cluster.ready('mine');
  cluster.ready('kept');
  const client = { workerId: 'd1' as WorkerId, isDriver: true, jobId: 'job-1' as JobId, namespace: 'default' };
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

test('a lease is answered when its worker is ready, and its room is free again on return', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  assert.deepEqual(cluster.lease('l1'), ['start l1 on a as w1']);
  assert.deepEqual(cluster.lease('l2'), []);
  assert.deepEqual(cluster.ready('l1'), ['save lease l1', 'grant l1 at w1']);
  assert.deepEqual(
    cluster.giveBack('l1'),
    ['forget lease l1', 'done', 'save lease l2', 'grant l2 at w1'],
    'the next lease has the same worker',
  );
  assert.deepEqual(cluster.giveBack('l2'), ['forget lease l2', 'stop w1 on a', 'done']);
});

test('a lease whose workers never come up is refused in the end', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.lease('l1');
  assert.deepEqual(cluster.crash('l1'), ['start l1 on a as w2']);
  assert.deepEqual(cluster.crash('l1'), ['start l1 on a as w3']);
  assert.deepEqual(cluster.crash('l1'), [
    'forget lease l1',
    'refuse: worker w3 on node a ended before it answered: its process was ended by SIGKILL\nIts last output:\n  last words',
  ]);
});

test('a job runs to its end and takes its actors with it', () => {
  const cluster = scenario();
  cluster.node('a');
  assert.deepEqual(cluster.job('job-7'), [
    'save job job-7',
    'done',
    'save job job-7',
    'start job-7 on a',
    'job-7 is RUNNING',
  ]);
  cluster.actor('hits', { job: 'job-7', needs: {} });
  assert.deepEqual(
    cluster.send({ kind: 'jobExited', jobId: 'job-7' as JobId, exitCode: 3, signal: '', failure: null }),
    [
      'save job job-7',
      'job-7 is FAILED: the entrypoint exited with code 3',
      'save actor hits',
      'stop w1 on a by force',
      'hits is dead: its job job-7 ended',
    ],
  );
});

test('a stopped job is STOPPED whatever its exit code, a waiting one at once', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  const stop = (id: string) => cluster.send({ kind: 'stopJob', jobId: id as JobId, request: 5 });
  cluster.job('job-1', { CPU: 1 });
  cluster.job('job-2', { CPU: 1 });
  assert.deepEqual(stop('job-2'), ['save job job-2', 'job-2 is STOPPED: stopped before it started', 'done']);
  assert.deepEqual(stop('job-1'), ['save job job-1', 'stop job-1 on a', 'done']);
  assert.deepEqual(
    cluster.send({ kind: 'jobExited', jobId: 'job-1' as JobId, exitCode: 143, signal: 'SIGTERM', failure: null }),
    ['save job job-1', 'job-1 is STOPPED: stopped by request'],
  );
});

test('what a node knows nothing of when it comes back is started there: the order was lost on the way', () => {
  const cluster = scenario();
  cluster.node('a');
  cluster.job('job-1');
  cluster.actor('hits');
  assert.deepEqual(cluster.node('a'), ['save node a', 'start hits on a as w1', 'start job-1 on a']);
  cluster.send({ kind: 'stopJob', jobId: 'job-1' as JobId, request: null });
  cluster.ready('hits');
  assert.deepEqual(
    cluster.node('a').filter((effect) => effect.includes(' is ')),
    ['hits is dead: its process was gone when node a came back', 'job-1 is STOPPED: stopped by request'],
  );
});

test('the lease of a broken worker is answered once its process is gone, whichever the head hears of first', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  for (const id of ['first', 'second']) {
    cluster.lease(id);
    cluster.ready(id);
  }
  const worker = { isBroken: true, force: false };
  const workerId = cluster.workerOf('first');
  assert.deepEqual(cluster.send({ kind: 'returnLease', leaseId: 'first' as LeaseId, worker, request: 7 }), [
    'forget lease first',
    'stop w1 on a',
  ]);
  const end = {
    detail: 'it broke',
    exitCode: 3,
    signal: null,
    lastLogLines: ['last words'],
    isIntended: true,
    cause: null,
  };
  const exited = step(cluster.state, { kind: 'workerExited', workerId, end }, 1);
  assert.deepEqual(exited.at(-1), { kind: 'answer', request: 7, answer: { kind: 'workerEnd', end } });
  cluster.crash('second');
  const asked = step(cluster.state, { kind: 'returnLease', leaseId: 'second' as LeaseId, worker, request: 8 }, 2);
  const [effect] = asked;
  assert.ok(effect?.kind === 'answer' && effect.answer.kind === 'workerEnd');
  assert.equal(effect.answer.end.signal, 'SIGKILL');
  assert.equal(cluster.state.leaseEnds.size, 0);
});

test('a lease that no node can hold waits for one that can, if it was asked to', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  assert.deepEqual(cluster.lease('large', { CPU: 8 }, { waits: true }), []);
  assert.deepEqual(cluster.node('b', { CPU: 8 }), ['save node b', 'start large on b as w1']);
});

test('leases of a higher priority are granted first, equal ones in the order of their requests', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('running');
  cluster.ready('running');
  cluster.lease('low');
  cluster.lease('high', { CPU: 1 }, { priority: 5 });
  cluster.lease('higher', { CPU: 1 }, { priority: 7 });
  cluster.lease('high too', { CPU: 1 }, { priority: 5 });
  const order: string[] = [];
  for (let last = 'running'; cluster.state.pending.size > 0; last = order.at(-1)!) {
    order.push(...cluster.giveBack(last).flatMap((line) => /^grant (.+) at/.exec(line)?.[1] ?? []));
  }
  assert.deepEqual(order, ['higher', 'high', 'high too', 'low']);
});

test('a worker is passed on only to a lease that asks for what it was started with', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  cluster.lease('has', { CPU: 2 });
  cluster.ready('has');
  cluster.lease('less', { CPU: 1 });
  cluster.lease('of another job', { CPU: 1 }, { job: 'job-2' });
  assert.deepEqual(cluster.giveBack('has'), [
    'forget lease has',
    'stop w1 on a',
    'done',
    'start less on a as w2',
    'start of another job on a as w3',
  ]);
});

test('who holds leases hears once that others wait for room; not of what it waits for itself, nor of what never fits', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('has', { CPU: 1 }, { owner: 'one' });
  cluster.ready('has');
  assert.deepEqual(cluster.lease('own', { CPU: 1 }, { owner: 'one' }), []);
  assert.deepEqual(cluster.lease('huge', { CPU: 8 }, { owner: 'two', waits: true }), []);
  assert.deepEqual(cluster.lease('other', { CPU: 1 }, { owner: 'two', priority: 1 }), ['others wait for what one has']);
  assert.deepEqual(cluster.lease('more', { CPU: 1 }, { owner: 'three', priority: 2 }), []);
  assert.deepEqual(cluster.giveBack('has'), [
    'forget lease has',
    'done',
    'save lease more',
    'grant more at w1',
    'others wait for what three has',
  ]);
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
