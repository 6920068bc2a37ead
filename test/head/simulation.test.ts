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

const IS_NIGHTLY = process.env.RAYLITE_TEST_NIGHTLY === '1';
for (const { nodes, actors, everything } of [
  { nodes: 60, actors: 1_000, everything: 1_000 },
  ...(IS_NIGHTLY ? [{ nodes: 2_000, actors: 40_000, everything: 50_000 }] : []),
])
  test(`${nodes} nodes grow to ${actors} actors: what an event touched holds after it, everything after each ${everything}`, () => {
    const world = new World({ seed: 4, nodes, actors });
    while (world.live < actors || world.events < 8_000) {
      const { event, effects } = world.advance();
      checkEffects(world, event, effects);
      checkNodes(world, nodesOf(world.state, effects));
      if (world.events % everything === 0) checkAll(world);
    }
    checkAll(world);
    assert.ok(world.starts > actors / 2, `${world.starts} starts`);
  });
