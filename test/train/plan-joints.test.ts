// How ranks find each other: the way of each group follows from the machines of its ranks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meshOf } from '#src/engine/index.js';
import { type JointPeer, type JointPlan, planJoints } from '#src/train/plan-joints.js';

/** Ranks on these nodes; a port per group listened for. */
const peersOn = (nodes: readonly string[], usesTls = false): readonly JointPeer[] =>
  nodes.map((nodeId, rank) => {
    let port = 1000 * (rank + 1);
    return {
      describe: () => Promise.resolve({ nodeId, host: `host-${nodeId}`, usesTls }),
      listen: () => Promise.resolve({ port: port++ }),
    };
  });

const kinds = (plans: readonly (readonly JointPlan[])[]) =>
  plans.map((joints) => joints.map(({ names, way }) => `${names[0]} ${way.kind}`));

test('ranks of one machine meet in shared memory, of several with one each over TCP', async () => {
  const mesh = meshOf({ data: 2 });
  const [together] = await planJoints(peersOn(['a', 'a']), mesh, 'run');
  assert.deepEqual(together![0]!.way, { kind: 'shm', name: 'run-zero.0' });
  const [, second] = await planJoints(peersOn(['a', 'b']), mesh, 'run');
  const { way, rank, ranks } = second![0]!;
  assert.ok(way.kind === 'tcp');
  assert.deepEqual([way.addresses, rank, ranks], [['host-a:1000', 'host-b:2000'], 1, [0, 1]]);
  assert.equal(way.seals, false);
  const [sealed] = await planJoints(peersOn(['a', 'b'], true), mesh, 'run');
  assert.ok(sealed![0]!.way.kind === 'tcp' && sealed![0]!.way.seals, 'where the cluster uses TLS');
});

test('several ranks on each of several machines use both, unless they are not in order or not equally many', async () => {
  const wayOf = async (nodes: readonly string[]) =>
    (await planJoints(peersOn(nodes), meshOf({ data: nodes.length }), 'run'))[0]![0]!.way;
  const both = await wayOf(['a', 'a', 'b', 'b', 'c', 'c']);
  assert.ok(both.kind === 'hierarchical');
  assert.deepEqual([both.machines, both.name, both.addresses.length], [3, 'run-zero.0', 6]);
  assert.equal((await wayOf(['a', 'b', 'a', 'b'])).kind, 'tcp');
  assert.equal((await wayOf(['a', 'a', 'a', 'b'])).kind, 'tcp');
});

test('every group of a mesh goes its own way, with equal secrets within one group alone', async () => {
  const plans = await planJoints(peersOn(['a', 'a', 'b', 'b']), meshOf({ tensor: 2, data: 2 }), 'run');
  const each = ['zero tcp', 'tensor shm', 'world hierarchical'];
  assert.deepEqual(kinds(plans), [each, each, each, each]);
  const secret = (rank: number) => {
    const { way } = plans[rank]![0]!;
    return way.kind === 'tcp' ? way.secret : '';
  };
  assert.equal(secret(0), secret(2));
  assert.notEqual(secret(0), secret(1));
});
