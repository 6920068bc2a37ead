// Any set of fusing passes gives the loss and the gradients of none of them, up to rounding.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FUSIONS, type Fusion, lossGraph, trainingPasses } from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { GraphRun, openDevice } from './device-for-tests.js';
import { labelled, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const ROWS = 20;
const BATCH = randomBatch([11, 6], ROWS, 37, 'fusion');

async function run(model: Model, fusions: readonly Fusion[]) {
  using opened = openDevice();
  using graph = new GraphRun(opened.device, trainingPasses(lossGraph(model, ROWS), fusions));
  const { program, store } = graph;
  initialise(model, 2, store);
  for (const field of ['ids', 'positions', 'starts', 'ends', 'labels'] as const)
    program.integers(field).set(BATCH[field]);
  program.floats('scale')[0] = 1 / labelled(BATCH);
  await program.run();
  const gradients = [...graph.plan.graph.gradients.keys()].map((name) => [name, graph.gradient(name)] as const);
  return { loss: program.floats('loss')[0]!, gradients: new Map(gradients), ops: graph.plan.graph.ops.length };
}

for (const [name, make] of [
  ['gpt2', tinyGpt2],
  ['llama', tinyLlama],
] as const) {
  test(`${name}: every set of fusions computes the same`, async () => {
    const plain = await run(make(), []);
    await fc.assert(
      fc.asyncProperty(fc.subarray([...FUSIONS]), async (fusions) => {
        const fused = await run(make(), fusions);
        assert.ok(Math.abs(fused.loss - plain.loss) < 1e-6);
        assert.ok(fused.ops <= plain.ops);
        for (const [parameter, expected] of plain.gradients) {
          const found = fused.gradients.get(parameter)!;
          const worst = Math.max(...expected.map((value, i) => Math.abs(value - found[i]!)));
          assert.ok(worst < 2e-6, `${parameter} differs by ${worst} with ${fusions.join(', ')}`);
        }
      }),
      { numRuns: 16 },
    );
  });
}
