// What ranks send and hold at each ZeRO stage: the bytes of the formulas, and what is exchanged when.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTraining, meshOf, type Strategy, type ZeroStage, type ZeroTuning } from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { tinyGpt2, tinyLlama } from './models-for-tests.js';
import { assertEqual, lossesOf, OTHERS, ROWS, run, SMOOTH, TIGHT } from './stage-job.js';

test('ranks send what the formulas say', async () => {
  const model = tinyGpt2;
  const perRank = 2;
  for (const worldSize of [2, 4]) {
    const strategy = { zeroStage: 2, mesh: meshOf({ data: worldSize }), rank: 0 } as const;
    const { layout } = compileTraining({ model: model(), rows: ROWS, strategy, optimizer: SMOOTH });
    const psi = layout.elements;
    const job = { model, worldSize, micros: worldSize * perRank, steps: [1, 2] } as const;
    const reduceScatter = (4 * psi * (worldSize - 1)) / worldSize;
    // In shared memory a slice is written once, for all peers to read; over a network it would be sent to each.
    const allGather = (4 * psi) / worldSize;
    const norm = 4;
    for (const { microBytes, updateBytes } of await run({ ...job, zeroStage: 1 })) {
      assert.equal(microBytes, 0);
      assert.equal(updateBytes, reduceScatter + norm + allGather);
    }
    for (const { microBytes, updateBytes } of await run({ ...job, zeroStage: 2 })) {
      assert.equal(microBytes, perRank * reduceScatter);
      assert.equal(updateBytes, norm + allGather);
    }
    // 3Ψ: gathered for the forward and for the backward, but for the last block, which goes straight from one into the other.
    const last = layout.buckets.findLast(({ name }) => name !== 'head')!;
    for (const { microBytes, updateBytes } of await run({ ...job, zeroStage: 3 })) {
      assert.equal(microBytes, perRank * (reduceScatter + 2 * allGather - (4 * last.elements) / worldSize));
      assert.equal(updateBytes, norm);
    }
    const keeping = { ...TIGHT, maxReuseDistance: 1e9 };
    for (const { microBytes } of await run({ ...job, zeroStage: 3, tuning: keeping }))
      assert.equal(microBytes, perRank * (reduceScatter + allGather));
  }
});

test('a tied embedding beyond reduce_bucket_size is reduced for the head and for the lookup, and not whole in between', async () => {
  const model = () =>
    modelFromConfig({ model_type: 'gpt2', n_layer: 6, n_head: 2, n_embd: 16, n_positions: 32, vocab_size: 600 });
  const reduceBucketSize = 5000; // a block has less, the embedding more
  const compile = (zeroStage: ZeroStage, tuning: Partial<ZeroTuning>) => {
    const strategy = { zeroStage, mesh: meshOf({ data: 2 }), rank: 1, tuning: { ...TIGHT, ...tuning } };
    return compileTraining({ model: model(), rows: ROWS, strategy, optimizer: SMOOTH, recompute: 'full' });
  };
  const [first] = compile(2, {}).layout.buckets;
  const reductions = (zeroStage: ZeroStage, tuning: Partial<ZeroTuning>) => {
    const { graph, arena } = compile(zeroStage, tuning).micro;
    const elements = graph.ops.filter(({ kind }) => kind === 'reduce_scatter').map(({ path }) => path);
    return { twice: elements.filter((path) => path === first!.name).length, arena };
  };
  for (const zeroStage of [2, 3] as const) {
    const [once, twice] = [reductions(zeroStage, {}), reductions(zeroStage, { reduceBucketSize })];
    assert.deepEqual([once.twice, twice.twice], [1, 2]);
    assert.ok(twice.arena.peakBytes < once.arena.peakBytes);
    // What lives at once: the embedding while the head writes it, or what the blocks have.
    const between = twice.arena.lives.filter(({ path }) =>
      [`gradients.${first!.name}`, `gradients.${first!.name}:1`].includes(path),
    );
    assert.equal(between.length, 2);
    assert.ok(between[0]!.last < between[1]!.first);
  }
  const job = { model, micros: 4, steps: [1, 3], recompute: 'full' } as const;
  const alone = await run({ ...job, zeroStage: 0, worldSize: 1 });
  const tuning = { ...TIGHT, reduceBucketSize };
  const [reduced, sliced] = [
    await run({ ...job, zeroStage: 2, worldSize: 2, tuning }),
    await run({ ...job, zeroStage: 3, worldSize: 2, tuning }),
  ];
  assertEqual(reduced, alone);
  assert.deepEqual(lossesOf(sliced), lossesOf(reduced));
  const { layout } = compile(2, { reduceBucketSize });
  for (const { microBytes } of reduced)
    assert.equal(
      microBytes,
      (2 * 4 * (layout.elements + layout.buckets[0]!.elements)) / 2,
      'two micro-batches of a rank',
    );
});

test('planned bytes of parameters, gradients and optimiser state follow the stage', () => {
  const rank = 1;
  for (const worldSize of [2, 4]) {
    for (const zeroStage of [0, 1, 2] as const) {
      const strategy: Strategy = { zeroStage, mesh: meshOf({ data: worldSize }), rank };
      const settings = { model: tinyLlama(), rows: ROWS, strategy, optimizer: SMOOTH };
      const { layout, memory, micro } = compileTraining(settings);
      const psi = 4 * layout.elements;
      assert.equal(memory.parameterBytes, psi);
      assert.equal(memory.gradientBytes, zeroStage === 2 ? psi / worldSize : psi);
      assert.equal(memory.optimizerBytes, zeroStage >= 1 ? (2 * psi) / worldSize : 2 * psi);
      const exchanges = micro.graph.ops.filter(({ kind }) => kind === 'reduce_scatter');
      assert.equal(exchanges.length, zeroStage === 2 ? layout.buckets.length : 0);
    }
  }
});

test('planned bytes of optimiser state are those of what the optimiser keeps', () => {
  for (const [optimizer] of OTHERS) {
    for (const worldSize of [1, 2, 4]) {
      const strategy = { zeroStage: 1, mesh: meshOf({ data: worldSize }), rank: 0 } as const;
      const { layout, memory } = compileTraining({ model: tinyGpt2(), rows: ROWS, strategy, optimizer });
      const owned = (isOfMatrices: boolean) =>
        layout.buckets
          .filter((bucket) => bucket.isOfMatrices === isOfMatrices)
          .reduce((sum, { sliceElements }) => sum + 4 * sliceElements, 0);
      const kept = { sgd: optimizer.kind === 'sgd' && optimizer.momentum > 0 ? 1 : 0, adagrad: 1, lion: 1, adamw: 2 };
      if (optimizer.kind === 'muon') {
        assert.ok(owned(true) > owned(false) / 4);
        assert.equal(memory.optimizerBytes, owned(true) + 2 * owned(false));
      } else assert.equal(memory.optimizerBytes, kept[optimizer.kind] * owned(false));
    }
  }
});

test('the backward runs on while a bucket is reduced', () => {
  const strategy = { zeroStage: 2, mesh: meshOf({ data: 2 }), rank: 0 } as const;
  const { micro } = compileTraining({ model: tinyLlama(), rows: ROWS, strategy, optimizer: SMOOTH });
  const { ops } = micro.graph;
  const exchanges = ops.flatMap(({ kind }, index) => (kind === 'reduce_scatter' ? [index] : []));
  for (const [number, exchange] of exchanges.slice(0, -1).entries()) {
    const waiting = ops.findIndex((_, index) => micro.schedule.waits[index]!.includes(exchange));
    assert.ok(waiting > exchanges[number + 1]!, `instruction ${waiting} waits for ${exchange} too early`);
  }
});
