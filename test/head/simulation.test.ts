// Clusters in one process, grown and broken by chance from a seed, looked at after every event.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAll, checkEffects, checkNodes, nodesOf } from './simulation/invariants.js';
import { World } from './simulation/world.js';

for (const seed of [1, 2, 3])
  test(`seed ${seed}: 8 nodes, 60 actors, 700 events: everything holds after each`, () => {
    const world = new World({ seed, nodes: 8, actors: 60 });
    for (let round = 0; round < 700; round += 1) {
      const { event, effects } = world.advance();
      checkEffects(world, event, effects);
      checkAll(world);
    }
    assert.ok(world.starts > 100, `${world.starts} starts`);
  });

test('60 nodes, 1,000 actors, 8,000 events: what an event touched holds after it, everything after each 1,000', () => {
  const world = new World({ seed: 4, nodes: 60, actors: 1_000 });
  for (let round = 1; round <= 8_000; round += 1) {
    const { event, effects } = world.advance();
    checkEffects(world, event, effects);
    checkNodes(world, nodesOf(world.state, effects));
    if (round % 1_000 === 0) checkAll(world);
  }
  assert.ok(world.starts > 1_500, `${world.starts} starts`);
});
