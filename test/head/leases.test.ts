// Leases of workers: in which order they are granted, to whom they are passed on, what becomes of those that break.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LeaseId, NodeId } from '#src/common/index.js';
import { step } from '#src/head/index.js';
import { scenario } from './scenario.js';

const nodeId = (id: string): NodeId => id as NodeId;
const ENDED = {
  detail: 'it broke',
  exitCode: 3,
  signal: null,
  lastLogLines: ['last words'],
  isIntended: true,
  cause: null,
};

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

test('tasks of tasks come before what asked earlier, the deepest first, but not before a higher priority', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('root');
  cluster.ready('root');
  const root = cluster.workerOf('root');
  cluster.lease('other root');
  cluster.lease('child', { CPU: 1 }, { owner: root });
  assert.deepEqual(cluster.send({ kind: 'workerBlocked', workerId: root, isBlocked: true }), [
    'start child on a as w2',
  ]);
  cluster.ready('child');
  const child = cluster.workerOf('child');
  cluster.lease('second child', { CPU: 1 }, { owner: root });
  cluster.lease('grandchild', { CPU: 1 }, { owner: child });
  cluster.lease('urgent', { CPU: 1 }, { priority: 1 });
  assert.deepEqual(cluster.send({ kind: 'workerBlocked', workerId: child, isBlocked: true }), [
    'start urgent on a as w3',
  ]);
  cluster.ready('urgent');
  const next = ['urgent', 'grandchild', 'second child'].flatMap((id) =>
    cluster.giveBack(id).filter((effect) => effect.startsWith('grant')),
  );
  assert.deepEqual(next, ['grant grandchild at w3', 'grant second child at w3', 'grant other root at w3']);
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
  assert.deepEqual(cluster.giveBack('l2'), ['forget lease l2', 'done', 'stop w1 on a']);
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
  const exited = step(cluster.state, { kind: 'workerExited', workerId, end: ENDED }, 1);
  assert.deepEqual(exited.at(-1), { kind: 'answer', request: 7, answer: { kind: 'workerEnd', end: ENDED } });
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

/** On one CPU runs a task, and the one that it has waited for; a third waits. */
function overCount() {
  const cluster = scenario();
  cluster.node('a', { CPU: 1 });
  cluster.lease('outer');
  cluster.ready('outer');
  const outer = cluster.workerOf('outer');
  cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: true });
  cluster.lease('inner');
  cluster.ready('inner');
  cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: false });
  cluster.lease('next');
  return { cluster, outer, inner: cluster.workerOf('inner') };
}

test('a worker that is given back waits with a lease that it will serve while its node is over its count', () => {
  const { cluster, outer } = overCount();
  assert.deepEqual(cluster.giveBack('inner'), ['forget lease inner', 'done']);
  assert.deepEqual(
    cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: true }),
    ['save lease next', 'grant next at w2'],
    'no process starts',
  );
  cluster.lease('last');
  cluster.send({ kind: 'workerBlocked', workerId: outer, isBlocked: false });
  assert.deepEqual(cluster.giveBack('next'), ['forget lease next', 'done']);
  assert.deepEqual(
    cluster.giveBack('last'),
    ['forget lease last', 'done', 'done', 'stop w2 on a'],
    'nobody wants it any more',
  );
});

test('an idle worker that dies, or whose node goes away, is not passed on', () => {
  for (const how of ['worker', 'node'] as const) {
    const { cluster, inner } = overCount();
    cluster.giveBack('inner');
    assert.deepEqual([...cluster.state.idle.keys()], [inner]);
    if (how === 'worker') cluster.send({ kind: 'workerExited', workerId: inner, end: ENDED });
    else cluster.send({ kind: 'nodeAway', nodeId: nodeId('a') });
    assert.equal(cluster.state.idle.size, 0, how);
  }
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
    'done',
    'stop w1 on a',
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
