// Sequence parallelism: every family over 2 and 4 ranks that share the rows of a micro-batch, alone and beside the other ways, trains as one
// rank does; packed sequences lie across the borders of ranks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTraining, meshOf, type ZeroStage } from '#src/engine/index.js';
import { DROPPING, FAMILIES } from './families-for-tests.js';
import { assertSame, runMesh, SMOOTH } from './meshes-for-tests.js';

for (const [family, model] of Object.entries(FAMILIES)) {
  test(`${family}: 2 and 4 sequence ranks train as one`, async () => {
    const alone = await runMesh({ model });
    for (const sequence of [2, 4]) assertSame(await runMesh({ model, mesh: { sequence } }), alone);
  });
}

test('beside tensor and data parallelism at every ZeRO stage, and a pipeline', async () => {
  for (const family of ['gpt2', 'qwen3', 'llama with 1 key-value head and biases']) {
    const model = FAMILIES[family]!;
    const alone = await runMesh({ model, micros: 4 });
    for (const zeroStage of [0, 1, 2, 3] as const satisfies readonly ZeroStage[]) {
      assertSame(await runMesh({ model, micros: 4, zeroStage, mesh: { sequence: 2, data: 2 } }), alone);
      assertSame(await runMesh({ model, micros: 4, zeroStage, mesh: { tensor: 2, sequence: 2 } }), alone);
    }
    assertSame(await runMesh({ model, micros: 4, zeroStage: 1, mesh: { sequence: 2, pipeline: 2 } }), alone);
  }
});

test('whatever is made again, and with what is dropped by rows, heads and keys of the whole', async () => {
  for (const model of Object.values(DROPPING)) {
    const job = { model, dropout: 'model', steps: 2 } as const;
    const alone = await runMesh(job);
    assertSame(await runMesh({ ...job, mesh: { sequence: 4 }, recompute: 'full' }), alone);
    assertSame(await runMesh({ ...job, mesh: { tensor: 2, sequence: 2 } }), alone);
  }
});

test('each exchange moves what the other ranks need of a rank', async () => {
  const model = FAMILIES['llama with 2 key-value heads']!;
  for (const sequence of [2, 4]) {
    const { bytes } = await runMesh({ model, micros: 1, steps: 2, mesh: { sequence } });
    // Of 16 rows: 16 columns of q and back; k and v of 4 columns for each part, of which 4 have a head twice.
    const perRow = 2 * 16 + 2 * 4 * Math.max(2, sequence);
    const each = (4 * 16 * perRow) / sequence;
    const layers = 2;
    for (const { micro } of bytes) assert.equal(micro.sequence, (2 * layers * each * (sequence - 1)) / sequence);
  }
});

test('rows and heads that do not cut are refused with what would', () => {
  const compile = (rows: number, sequence: number, family = 'gpt2') => {
    const strategy = { zeroStage: 0, mesh: meshOf({ sequence }), rank: 0 } as const;
    return compileTraining({ model: FAMILIES[family]!(), rows, strategy, optimizer: SMOOTH });
  };
  assert.throws(
    () => compile(15, 2),
    /rows: expected a multiple of the 2 ranks of sequenceParallel, got 15.*14 and 16/,
  );
  assert.throws(
    () => compile(24, 8),
    /sequenceParallel: expected a number that the 4 heads of .* cut into, got 8.*fits is 4/,
  );
});
