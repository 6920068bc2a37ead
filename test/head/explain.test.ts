// `explain`: the reasons that users see, for each kind of thing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/common/index.js';
import { type Explanation, explain } from '#src/head/index.js';
import { type Scenario, scenario } from './scenario.js';

const explained = (cluster: Scenario, id: string): Explanation => {
  const found = explain(cluster.state, id);
  assert.ok(found, id);
  return found;
};
/** "busy 2: has 0 of 1 CPU free". */
const obstacles = (cluster: Scenario, id: string): string[] =>
  explained(cluster, id).obstacles.map(({ kind, detail, nodeIds }) => `${kind} ${nodeIds.join(' ')}: ${detail}`);

function zones(): Scenario {
  const cluster = scenario();
  cluster.node('a', { CPU: 2, GPU: 2 }, { labels: { zone: 'east' } });
  cluster.node('b', { CPU: 2, GPU: 2 }, { labels: { zone: 'east' } });
  cluster.node('c', { CPU: 2 }, { labels: { zone: 'east' } });
  cluster.node('d', { CPU: 2, GPU: 2 }, { labels: { zone: 'west' } });
  cluster.node('e', { CPU: 2, GPU: 2 });
  return cluster;
}

test('an actor that waits: nodes with the same obstacle together, those that may pass first', () => {
  const cluster = zones();
  const options = { needs: { GPU: 2 }, selector: { zone: 'east' } };
  for (const id of ['x', 'y']) cluster.actor(id, { ...options, needs: { CPU: 1, GPU: 1 } });
  cluster.send({ kind: 'nodeAway', nodeId: 'b' as NodeId });
  cluster.actor('waits', options);
  cluster.actor('behind', options);
  const found = explained(cluster, 'behind');
  assert.equal(found.state, 'PENDING_CREATION');
  assert.deepEqual(found.because, [
    'It waits for 2 GPU on a node with zone=east: node a has 1 of 2 GPU free; node b is away.',
    '1 that ask for the same are before it.',
  ]);
  assert.deepEqual(obstacles(cluster, 'behind'), [
    'busy a: has 1 of 2 GPU free',
    'away b: is away',
    'size c: has only 0 GPU',
    'labels d: has zone=west, not east',
    'labels e: has zone=(none), not east',
  ]);
});

test('an actor that runs: where, why there, what it holds; by its name too', () => {
  const cluster = zones();
  cluster.actor('packed', { name: 'hits' });
  cluster.actor('there', { strategy: 'node:d', maxRestarts: 3 });
  cluster.ready('packed');
  cluster.ready('there');
  cluster.crash('there');
  assert.deepEqual(explained(cluster, 'hits').because, [
    'It is on node c (host-c), in process 10.',
    'That node was chosen since of the nodes that stay at most half used with it, that one had joined first (DEFAULT).',
    'It holds 1 CPU.',
  ]);
  const { state, because } = explained(cluster, 'there');
  assert.equal(state, 'RESTARTING');
  assert.equal(because[1], 'That node was chosen since its scheduling strategy names that node.');
  assert.equal(because[3], 'It was started again 1 of at most 3 times.');
});

test('a task, its worker, and one in a bundle', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  cluster.group('g', [{ CPU: 1 }]);
  cluster.lease('inside', { CPU: 1 }, { bundle: ['g', 0] });
  cluster.lease('spread', { CPU: 1 }, { strategy: 'SPREAD' });
  cluster.lease('waits', { CPU: 1 });
  assert.deepEqual(explained(cluster, 'inside').because, [
    'Its worker w1 is on node a (host-a).',
    'Bundle 0 of placement group g is there.',
  ]);
  assert.equal(explained(cluster, 'w2').id, 'spread');
  assert.match(explained(cluster, 'spread').because[1]!, /fewest of its kind/);
  assert.deepEqual(obstacles(cluster, 'waits'), ['busy a: has 0 of 2 CPU free']);
});

test('a group: where its bundles are; whether one has no room, or only all together have none', () => {
  const cluster = scenario();
  cluster.node('a', { CPU: 2 });
  cluster.node('b', { CPU: 2 });
  cluster.group('made', [{ CPU: 1 }]);
  assert.deepEqual(explained(cluster, 'made').because, [
    'Bundle 0 (1 CPU) is on node a (host-a); nothing of it is used.',
  ]);
  cluster.group('together', [{ CPU: 1 }, { CPU: 2 }], { strategy: 'STRICT_PACK', waits: true });
  assert.match(explained(cluster, 'together').because.at(-1)!, /^Each of its bundles has room somewhere, but not all/);
  cluster.group('large', [{ CPU: 2 }, { CPU: 2 }], { strategy: 'SPREAD' });
  assert.match(explained(cluster, 'large').because.at(-1)!, /^Each of its bundles/);
  cluster.actor('fills', { needs: { CPU: 2 } });
  assert.deepEqual(obstacles(cluster, 'large'), ['busy a: has 1 of 2 CPU free', 'busy b: has 0 of 2 CPU free']);
});

test('nodes, jobs, the dead, and what nobody knows', () => {
  const cluster = zones();
  cluster.actor('short');
  cluster.ready('short');
  assert.deepEqual(explained(cluster, 'c').because, ['1 CPU of 2 CPU is free.', 'On it are 1 actors.']);
  cluster.crash('short');
  assert.deepEqual(explained(cluster, 'short').because, ['It ended: its process was ended by SIGKILL.']);
  cluster.send({ kind: 'nodeLost', nodeId: 'c' as NodeId, reason: 'it was silent for too long' });
  assert.deepEqual(explained(cluster, 'c').because, ['It was given up: it was silent for too long.']);
  cluster.job('job-2', { CPU: 2 });
  assert.match(explained(cluster, 'job-2').because[0]!, /^Its entrypoint was placed on node a/);
  for (const id of ['p', 'q', 'r']) cluster.actor(id, { needs: { CPU: 2 } });
  cluster.job('job-3', { CPU: 2 });
  assert.equal(explained(cluster, 'job-3').state, 'PENDING');
  assert.equal(explain(cluster.state, 'nobody'), null);
});
