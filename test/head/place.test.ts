// The placement policies, one promise a test.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId, Resources } from '#src/common/index.js';
import {
  type Demand,
  demandFor,
  explainInfeasible,
  explainWait,
  NodeIndex,
  type NodeRoom,
  newGpuRoom,
} from '#src/head/index.js';

interface Node extends NodeRoom {
  readonly alikeCount: number;
}
const node = (id: string, total: Resources, used: Resources = {}, rest: Partial<Node> = {}): Node => ({
  nodeId: id as NodeId,
  hostname: `host-${id}`,
  status: 'connected',
  total,
  used,
  gpus: newGpuRoom(total),
  labels: {},
  alikeCount: 0,
  ...rest,
});
const demand = (needs: Resources, rest: Partial<Demand> = {}): Demand =>
  demandFor({ needs, selector: {}, strategy: 'DEFAULT', locality: [], ...rest });
const chosen = (wanted: Demand, nodes: readonly Node[]): string => {
  const index = new NodeIndex();
  for (const each of nodes) index.set(each);
  for (const { nodeId, alikeCount } of nodes)
    for (let count = 0; count < alikeCount; count += 1) index.countAlike('this', nodeId, 1);
  const placement = index.place(wanted, 'this');
  if (placement.kind === 'node') return placement.nodeId;
  return `${placement.kind}: ${(placement.kind === 'wait' ? explainWait : explainInfeasible)(wanted, nodes)}`;
};

test('DEFAULT packs one node up to half of it, then takes the least used', () => {
  const nodes = (used: number) => [node('a', { CPU: 4 }, { CPU: used }), node('b', { CPU: 4 })];
  assert.equal(chosen(demand({ CPU: 1 }), nodes(1)), 'a');
  assert.equal(chosen(demand({ CPU: 1 }), nodes(2)), 'b');
});

test('SPREAD takes the node with the fewest workers of the kind', () => {
  const nodes = [node('a', { CPU: 4 }, {}, { alikeCount: 1 }), node('b', { CPU: 4 })];
  assert.equal(chosen(demand({ CPU: 1 }, { strategy: 'SPREAD' }), nodes), 'b');
});

test('work without a GPU keeps off GPU nodes while it can', () => {
  const nodes = [node('gpu', { CPU: 4, GPU: 1 }), node('cpu', { CPU: 1 })];
  assert.equal(chosen(demand({ CPU: 1 }), nodes), 'cpu');
  assert.equal(chosen(demand({ CPU: 2 }), nodes), 'gpu');
});

test('node:<id> waits for that node and no other', () => {
  const nodes = [node('a', { CPU: 1 }, { CPU: 1 }), node('b', { CPU: 1 })];
  assert.match(
    chosen(demand({ CPU: 1 }, { strategy: 'node:a' }), nodes),
    /^wait: waits for 1 CPU on node a: node a has 0 of 1 CPU free/,
  );
  assert.match(chosen(demand({ CPU: 1 }, { strategy: 'node:c' }), nodes), /^infeasible: asks for 1 CPU on node c/);
});

test('label selectors: equal, not, in, not in', () => {
  const nodes = [
    node('a', { CPU: 1 }, {}, { labels: { zone: 'east' } }),
    node('b', { CPU: 1 }, {}, { labels: { zone: 'west' } }),
  ];
  const at = (rule: string) => chosen(demand({ CPU: 1 }, { selector: { zone: rule } }), nodes);
  assert.equal(at('west'), 'b');
  assert.equal(at('!east'), 'b');
  assert.equal(at('in(north, west)'), 'b');
  assert.equal(at('!in(west,north)'), 'a');
  assert.equal(at('exists()'), 'a');
  assert.match(at('!exists()'), /^infeasible/);
  assert.match(at('south'), /^infeasible: asks for 1 CPU on a node with zone=south, which no node can ever hold/);
});

test('fallback selectors are tried in order where no node of the selector has room', () => {
  const nodes = [
    node('a', { CPU: 1 }, { CPU: 1 }, { labels: { disk: 'ssd' } }),
    node('b', { CPU: 1 }, {}, { labels: { disk: 'hdd' } }),
    node('c', { CPU: 1 }),
  ];
  const at = (...fallbacks: Record<string, string>[]) =>
    chosen(demand({ CPU: 1 }, { selector: { disk: 'ssd' }, fallbacks }), nodes);
  assert.equal(at(), 'wait: waits for 1 CPU on a node with disk=ssd: node a has 0 of 1 CPU free');
  assert.equal(at({ disk: 'hdd' }, {}), 'b');
  assert.equal(at({ disk: '!exists()' }), 'c');
  assert.match(
    chosen(demand({ CPU: 2 }, { selector: { disk: 'ssd' }, fallbacks: [{}] }), nodes),
    /^infeasible: asks for 2 CPU on a node with disk=ssd or any labels, which no node can ever hold/,
  );
});

test('prefer:<id> takes that node while it has room, else as DEFAULT', () => {
  const wanted = demand({ CPU: 1 }, { strategy: 'prefer:b' });
  assert.equal(chosen(wanted, [node('a', { CPU: 4 }), node('b', { CPU: 1 })]), 'b');
  assert.equal(chosen(wanted, [node('a', { CPU: 4 }), node('b', { CPU: 1 }, { CPU: 1 })]), 'a');
  assert.equal(chosen(wanted, [node('a', { CPU: 4 })]), 'a');
});

test('tenths add up exactly', () => {
  assert.equal(chosen(demand({ CPU: 0.1 }), [node('a', { CPU: 0.3 }, { CPU: 0.2 })]), 'a');
});

test('a node that holds the arguments is preferred', () => {
  const nodes = [node('a', { CPU: 4 }), node('b', { CPU: 4 })];
  assert.equal(chosen(demand({ CPU: 1 }, { locality: ['b' as NodeId] }), nodes), 'b');
});

test('a node that is away is waited for, not refused', () => {
  assert.equal(
    chosen(demand({ GPU: 1 }), [node('a', { GPU: 1 }, {}, { status: 'away' })]),
    'wait: waits for 1 GPU: node a is away',
  );
});
