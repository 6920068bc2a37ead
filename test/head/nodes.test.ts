// Nodes that fall silent, are away for a moment, and come back: what is lost, kept, ended and started.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActorId, JobId, NodeId } from '#src/common/index.js';
import { scenario } from './scenario.js';

const actorId = (id: string): ActorId => id as ActorId;
const nodeId = (id: string): NodeId => id as NodeId;

test('with no node at all, work waits for the first one', () => {
  const cluster = scenario();
  assert.deepEqual(cluster.actor('early'), ['save actor early', 'accept early']);
  assert.ok(cluster.node('a').includes('start early on a as w1'));
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
