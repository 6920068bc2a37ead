// GPUs one by one: which devices work gets, what it waits for, and that no device is given away twice.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId, WorkerId } from '#src/common/index.js';
import { createClusterState, explain, waitReason } from '#src/head/index.js';
import { changeOf, restore } from '#src/head/records.js';
import { type Scenario, scenario } from './scenario.js';

function node(gpus: number): Scenario {
  const cluster = scenario();
  cluster.node('a', { CPU: 16, GPU: gpus });
  return cluster;
}
const lease = (cluster: Scenario, id: string, GPU: number): string[] => cluster.lease(id, { GPU });
const end = (cluster: Scenario, id: string): void => {
  cluster.ready(id);
  cluster.crash(id);
};
const whyWaits = (cluster: Scenario, id: string): string => waitReason(cluster.state, `lease:${id}`);

test('0.6 of a GPU three times on two: the third waits, and gets the device of the one that ends', () => {
  const cluster = node(2);
  for (const id of ['x', 'y', 'z']) lease(cluster, id, 0.6);
  assert.deepEqual([cluster.gpusOf('x'), cluster.gpusOf('y')], [[0], [1]]);
  assert.deepEqual(cluster.freeGpus('a'), [0.4, 0.4]);
  assert.equal(whyWaits(cluster, 'z'), 'waits for 0.6 GPU: node a has 0.4 and 0.4 of 2 GPU free');
  end(cluster, 'y');
  assert.deepEqual(cluster.gpusOf('z'), [1]);
});

test('parts go where the least is left over, so that whole GPUs stay free for those that ask for them', () => {
  const cluster = node(3);
  lease(cluster, 'half', 0.5);
  lease(cluster, 'whole', 1);
  lease(cluster, 'quarter', 0.25);
  lease(cluster, 'two', 2);
  assert.deepEqual(cluster.gpusOf('quarter'), [0]);
  assert.equal(whyWaits(cluster, 'two'), 'waits for 2 GPU: node a has 1.25 of 3 GPU free');
  lease(cluster, 'third', 0.3);
  assert.deepEqual(cluster.gpusOf('third'), [2]);
  end(cluster, 'whole');
  end(cluster, 'half');
  assert.equal(whyWaits(cluster, 'two'), 'waits for 2 GPU: node a has 1 of 3 GPU wholly free');
  end(cluster, 'quarter');
  assert.deepEqual(cluster.gpusOf('two'), [0, 1]);
});

test('tenths fill a device exactly, and leave it whole', () => {
  const cluster = node(1);
  for (let part = 0; part < 10; part += 1) lease(cluster, `p${part}`, 0.1);
  assert.deepEqual(cluster.freeGpus('a'), [0]);
  for (let part = 0; part < 10; part += 1) end(cluster, `p${part}`);
  lease(cluster, 'all', 1);
  assert.deepEqual(cluster.gpusOf('all'), [0]);
});

test('a broken GPU leaves the room, what runs there keeps it, and one that is well again comes back', () => {
  const cluster = node(2);
  lease(cluster, 'runs', 0.5);
  cluster.broken('a', [0]);
  lease(cluster, 'next', 0.5);
  assert.deepEqual(cluster.gpusOf('next'), [1]);
  lease(cluster, 'two', 2);
  lease(cluster, 'more', 0.6);
  assert.equal(whyWaits(cluster, 'more'), 'waits for 0.6 GPU: node a has 0.5 of 2 GPU free');
  assert.deepEqual(explain(cluster.state, 'a')!.because[0], '16 CPU, 0.5 GPU of 16 CPU, 2 GPU is free.');
  end(cluster, 'runs');
  assert.deepEqual(cluster.freeGpus('a'), [1, 0.5]);
  assert.deepEqual(cluster.broken('a', []).slice(0, 1), ['start more on a as w3']);
  assert.deepEqual(cluster.gpusOf('more'), [0]);
});

test('bundles set devices aside: what runs in them shares those and no others', () => {
  const cluster = node(2);
  cluster.group('g', [{ GPU: 0.5 }, { GPU: 1 }]);
  assert.deepEqual(cluster.freeGpus('a'), [0, 0.5]); // the larger first
  cluster.lease('part', { GPU: 0.4 }, { bundle: ['g', 1] });
  cluster.lease('whole', { GPU: 1 }, { bundle: ['g', 1] });
  cluster.lease('half', { GPU: 0.5 }, { bundle: ['g', 0] });
  lease(cluster, 'beside', 0.5);
  assert.deepEqual([cluster.gpusOf('part'), cluster.gpusOf('half'), cluster.gpusOf('beside')], [[0], [1], [1]]);
  assert.match(whyWaits(cluster, 'whole'), /^waits for 1 GPU in bundle 1/);
  end(cluster, 'part');
  assert.deepEqual(cluster.gpusOf('whole'), [0]);
});

test('a removed group leaves its workers the devices that they see, until they are gone', () => {
  const cluster = node(1);
  cluster.group('g', [{ GPU: 1 }]);
  cluster.lease('inside', { GPU: 0.5 }, { bundle: ['g', 0] });
  cluster.ready('inside');
  const workerId = cluster.workerOf('inside');
  cluster.send({ kind: 'removeGroup', groupId: 'g' as never, request: 9 });
  assert.deepEqual(cluster.freeGpus('a'), [0.5]);
  const end = { detail: '', exitCode: 0, signal: null, lastLogLines: [], isIntended: true, cause: null };
  cluster.send({ kind: 'workerExited', workerId, end });
  assert.deepEqual(cluster.freeGpus('a'), [1]);
});

test('a group whose parts no devices can hold together is refused, one that fits by its parts is made', () => {
  const cluster = node(2);
  for (const strategy of ['PACK', 'STRICT_PACK'] as const)
    assert.match(cluster.group(strategy, [{ GPU: 0.6 }, { GPU: 0.6 }, { GPU: 0.6 }], { strategy })[0]!, /^refuse/);
  cluster.group('fits', [{ GPU: 0.4 }, { GPU: 0.6 }, { GPU: 0.4 }, { GPU: 0.6 }], { strategy: 'STRICT_PACK' });
  assert.deepEqual(cluster.placesOf('fits'), ['a', 'a', 'a', 'a']);
  assert.deepEqual(cluster.freeGpus('a'), [0, 0]);
});

test('a worker that passes to the next lease keeps its device, though another would be as good', () => {
  const cluster = node(2);
  for (const id of ['first', 'second', 'next']) lease(cluster, id, 1);
  cluster.ready('second');
  const workerId = cluster.workerOf('second');
  assert.ok(cluster.giveBack('second').includes('grant next at w2'));
  assert.deepEqual([cluster.workerOf('next'), cluster.gpusOf('next')], [workerId, [1]]);
});

test('a new head counts the devices of what runs as the former one did', () => {
  const cluster = node(3);
  lease(cluster, 'x', 0.6);
  cluster.actor('y', { needs: { GPU: 0.6 } });
  cluster.group('g', [{ GPU: 1 }]);
  cluster.actor('inside', { needs: { GPU: 0.5 }, bundle: ['g', 0] });
  cluster.job('job', { GPU: 0.2 });
  for (const id of ['x', 'y', 'inside']) cluster.ready(id);
  assert.deepEqual(cluster.freeGpus('a'), [0.2, 0.4, 0]);
  const { state } = cluster;
  const ids = { node: ['a'], lease: ['x'], actor: ['y', 'inside'], group: ['g'], job: ['job'] } as const;
  const entries = Object.entries(ids).flatMap(([table, all]) =>
    all.map((id) => changeOf(state, table as keyof typeof ids, id) as never),
  );
  const next = createClusterState(() => 'w9' as WorkerId);
  restore(next, structuredClone(entries));
  assert.deepEqual(next.nodes.get('a' as NodeId)!.gpus, state.nodes.get('a' as NodeId)!.gpus);
  assert.deepEqual(next.groups.get('g' as never)!.places, state.groups.get('g' as never)!.places);
});
