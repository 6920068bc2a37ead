// Placement groups as a user of a cluster of several nodes sees them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import {
  actor,
  type Cluster,
  ConfigError,
  GetTimeoutError,
  get,
  getPlacementGroup,
  InfeasibleError,
  init,
  nodes,
  PlacementGroupRemovedError,
  placementGroup,
  task,
} from '#src/client/index.js';
import { CLI } from '../support/cli.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Counter, groupOfChild, nodeOf } from './support/user-code.js';

describe('placement groups', () => {
  const three = new TestNodes({ a: {}, b: {}, c: {} }, 64 * 1024 * 1024);
  let cluster: Cluster;
  before(async () => {
    await three.open();
    process.env.RAYLITE_AGENT = three.node('a').uds;
    cluster = await init({ address: three.head.address, token: TOKEN, logToDriver: false });
  });
  after(async () => {
    delete process.env.RAYLITE_AGENT;
    await cluster?.[Symbol.asyncDispose]();
    await three[Symbol.asyncDispose]();
  });
  const freeCpus = async () => (await nodes()).reduce((sum, node) => sum + (node.available.CPU ?? 0), 0);

  test('actors and tasks run where their bundle is, and its room comes back when the group is removed', async () => {
    {
      await using group = await placementGroup({ bundles: [{ cpus: 1 }, { cpus: 1 }], strategy: 'STRICT_SPREAD' });
      await group.ready();
      const { state, bundles } = await group.info();
      assert.equal(state, 'CREATED');
      assert.notEqual(bundles[0]!.nodeId, bundles[1]!.nodeId);
      assert.equal(await freeCpus(), 4);
      for (const [bundleIndex, { nodeId }] of bundles.entries()) {
        const placementGroup = { group, bundleIndex };
        assert.equal(await task(nodeOf, { placementGroup })(), nodeId);
        const counter = await actor(Counter, { cpus: 1, placementGroup }).create(3);
        assert.equal(await counter.add(1), 4);
      }
    }
    while ((await freeCpus()) < 6) await new Promise((resolve) => setTimeout(resolve, 20));
  });

  test('what a task starts runs in its group where it was asked to capture that', async () => {
    await using group = await placementGroup({ bundles: [{ cpus: 2 }] });
    const inside = { group, captureChildTasks: true };
    assert.equal(await task(groupOfChild, { cpus: 1, placementGroup: inside })(), group.id);
    assert.equal(await task(groupOfChild, { cpus: 1, placementGroup: { group } })(), null);
    assert.equal(await task(groupOfChild, { cpus: 1 })(), null);
  });

  test('raylite list pgs shows each group with its bundles', async () => {
    await using group = await placementGroup({ bundles: [{ cpus: 1 }, { cpus: 0.5 }], name: 'shown' });
    const list = async (...flags: string[]): Promise<string> => {
      const args = [CLI, 'list', 'pgs', '--address', three.head.httpUrl, ...flags];
      const run = promisify(execFile);
      return (await run(process.execPath, args, { env: { ...process.env, RAYLITE_TOKEN: TOKEN } })).stdout;
    };
    const { bundles } = await (await group.ready()).info(); // what ran before may still hold room
    assert.match(
      await list(),
      new RegExp(`${group.id} +shown +CREATED +PACK +0/1 CPU on ${bundles[0]!.nodeId}; 0/0.5 CPU`),
    );
    const [view] = JSON.parse(await list('--json')) as { groupId: string; bundles: { resources: object }[] }[];
    assert.equal(view?.groupId, group.id);
    assert.deepEqual(view.bundles[1]!.resources, { CPU: 0.5 });
  });

  test('a named group is found; ready() tells of its room, and of its end', async () => {
    await using first = await placementGroup({ bundles: [{ cpus: 2 }], strategy: 'STRICT_PACK', name: 'gang' });
    assert.equal((await getPlacementGroup('gang')).id, first.id);
    const wide = { bundles: [{ cpus: 2 }, { cpus: 2 }, { cpus: 2 }] };
    const waits = await placementGroup(wide);
    await assert.rejects(waits.ready({ timeoutMs: 1 }), GetTimeoutError);
    assert.match((await waits.info()).reason, /^waits for bundles of 3 × 2 CPU on few nodes. Free is node/);
    const ended = assert.rejects(waits.ready(), PlacementGroupRemovedError);
    await waits.remove();
    await ended;
    await first.remove();
    await (await placementGroup({ ...wide, name: 'wide' })).ready();
    await (await getPlacementGroup('wide')).remove();
    await assert.rejects(getPlacementGroup('wide'), ConfigError);
  });

  test('what waits for a group that is removed fails, and says why', async () => {
    const group = await placementGroup({ bundles: [{ cpus: 1 }] });
    const counter = await actor(Counter, { cpus: 1, placementGroup: { group } }).create(0);
    const waiting = task(nodeOf, { placementGroup: { group } })();
    await group.remove();
    await assert.rejects(get(waiting), /was removed/);
    await assert.rejects(get(counter.add(1)), /its placement group pg-\w+ was removed/);
  });

  test('a group that no nodes could hold is refused with what there is, bad options by name', async () => {
    await assert.rejects(
      placementGroup({ bundles: Array(4).fill({ cpus: 1 }), strategy: 'STRICT_SPREAD' }),
      (error) => error instanceof InfeasibleError && /4 × 1 CPU each on a node of its own/.test(error.detail),
    );
    await assert.rejects(placementGroup({ bundles: [{}] }), /^ConfigError: bundles\[0\]: expected some resources/);
    await assert.rejects(placementGroup({ bundles: [{ cpus: -1 }] }), /bundles\[0\].cpus: expected a number/);
    await assert.rejects(placementGroup({ bundles: [{ gpus: 2.5 }] }), /bundles\[0\].gpus: expected a part of one GPU/);
    await using group = await placementGroup({ bundles: [{ cpus: 1 }] });
    const at = (bundleIndex: number) => () => task(nodeOf, { placementGroup: { group, bundleIndex } });
    assert.throws(at(1), /placementGroup.bundleIndex: expected an index of 0 to 0/);
    assert.throws(() => task(nodeOf, { placementGroup: { group }, labels: {} }), /labels: expected nothing beside/);
  });

  test('groups and what runs in them survive the end of the head', async () => {
    await using group = await placementGroup({ bundles: [{ cpus: 2 }, { cpus: 1 }] });
    const counter = await actor(Counter, { cpus: 1, placementGroup: { group, bundleIndex: 1 } }).create(1);
    const before = await group.info();
    await three.killHead();
    await three.startHead();
    assert.deepEqual(await group.info(), before);
    assert.equal(await counter.add(1), 2);
    while ((await freeCpus()) !== 3) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(await task(nodeOf, { cpus: 2, placementGroup: { group } })(), before.bundles[0]!.nodeId);
  });
});
