// ZeRO stages 0 to 3 over 1, 2 and 4 ranks with several micro-batches per step: the same losses, norms and parameters as one
// rank, for random small models; the bytes that ranks send and the memory that they plan are those of the formulas.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  compileTraining,
  type FloatType,
  meshOf,
  type OptimizerSettings,
  type Recompute,
  type StateKind,
  type Strategy,
  TrainStep,
  type ZeroStage,
  type ZeroTuning,
} from '#src/engine/index.js';
import { adapterFromConfig, initialise, type Model, modelFromConfig, withAdapter } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const ROWS = 16;
const VOCABULARY = 37;
// A large eps: steps follow the gradient smoothly, so that rounding stays rounding (Adam makes full steps of noise otherwise).
/** No parameter of these small models persists, nothing is kept from one use to the next. */
const TIGHT: Partial<ZeroTuning> = { paramPersistenceThreshold: 0, maxReuseDistance: 0 };
const SMOOTH: OptimizerSettings = { ...OPTIMIZER, eps: 1e-2 };

interface Job {
  readonly model: () => Model;
  readonly zeroStage: ZeroStage;
  readonly worldSize: number;
  /** Micro-batches of a step, over all ranks. */
  readonly micros: number;
  readonly steps: readonly [from: number, to: number];
  readonly resumeFrom?: readonly Outcome[];
  readonly optimizer?: OptimizerSettings;
  readonly lr?: number;
  readonly dtype?: FloatType;
  readonly tuning?: Partial<ZeroTuning>;
  readonly recompute?: Recompute;
  readonly dropout?: number;
}

interface Outcome {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly parameters: ReadonlyMap<string, Float32Array>;
  /** What a checkpoint of this rank holds. */
  readonly pieces: readonly { kind: StateKind; name: string; offset: number; values: Float32Array }[];
  readonly microBytes: number;
  readonly updateBytes: number;
}

async function joinAll(size: number): Promise<(NativeCommunicator | null)[]> {
  if (size === 1) return [null];
  const name = `rlt-${randomUUID()}`;
  const join = (rank: number) => native().joinShmGroup({ name, rank, size, timeoutMs: 60_000 });
  return Promise.all(Array.from({ length: size }, (_, rank) => join(rank)));
}

/** Outcomes by rank. */
async function run(job: Job): Promise<readonly Outcome[]> {
  const communicators = await joinAll(job.worldSize);
  try {
    return await Promise.all(communicators.map((communicator, rank) => runRank(job, rank, communicator)));
  } finally {
    for (const communicator of communicators) communicator?.dispose();
  }
}

async function runRank(job: Job, rank: number, communicator: NativeCommunicator | null): Promise<Outcome> {
  using opened = openDevice(1);
  const { zeroStage, worldSize, micros, steps, optimizer = SMOOTH, lr = 1e-2, dtype = 'f32' } = job;
  const { tuning = TIGHT, recompute = 'none', dropout = null } = job;
  const model = job.model();
  const strategy = { zeroStage, mesh: meshOf({ data: worldSize }), rank, tuning };
  const settings = {
    model,
    rows: ROWS,
    strategy,
    optimizer,
    dtype,
    recompute,
    dropout,
    device: opened.device,
    communicators: { zero: communicator },
  };
  await using step = TrainStep.create(settings);
  initialise(model, 3, step.parameters);
  if (job.resumeFrom) restore(step, job.resumeFrom);
  const losses: number[] = [];
  const norms: number[] = [];
  let microBytes = 0;
  let updateBytes = 0;
  for (let number = steps[0]; number <= steps[1]; number++) {
    const all = Array.from({ length: micros }, (_, i) => randomBatch([7, 2 + i], ROWS, VOCABULARY, `${number}/${i}`));
    const tokens = all.reduce((sum, batch) => sum + labelled(batch), 0);
    const mine = all.filter((_, index) => index % worldSize === rank);
    const before = communicator?.bytesSent ?? 0;
    let loss = 0;
    for (const [i, batch] of mine.entries())
      loss += (await step.micro(batch, { scale: 1 / tokens, isFirst: i === 0 })).loss;
    const between = communicator?.bytesSent ?? 0;
    norms.push((await step.update({ lr, step: number })).gradientNorm);
    losses.push(loss);
    microBytes = between - before;
    updateBytes = (communicator?.bytesSent ?? 0) - between;
  }
  const parameters = new Map<string, Float32Array>();
  for (const { name } of step.parameters.parameters) parameters.set(name, await step.gatherParameter(name));
  const pieces = step.slices.flatMap((slice) =>
    step.stateOf(slice).map((kind) => ({
      kind,
      name: slice.name,
      offset: slice.parameterOffset,
      values: step.readState(kind, slice),
    })),
  );
  return { losses, norms, parameters, pieces, microBytes, updateBytes };
}

/** As checkpoints do it: parameters whole, state in the slices that the rank owns. */
function restore(step: TrainStep, outcomes: readonly Outcome[]): void {
  const whole = new Map<string, Float32Array>();
  const lengths = new Map(step.parameters.parameters.map(({ name, length }) => [name, length]));
  for (const { kind, name, offset, values } of outcomes.flatMap(({ pieces }) => pieces)) {
    const key = `${kind}/${name}`;
    const target = whole.get(key) ?? new Float32Array(lengths.get(name)!);
    target.set(values, offset);
    whole.set(key, target);
  }
  for (const name of lengths.keys()) step.loadParameter(name, whole.get(`parameter/${name}`)!);
  for (const slice of step.slices)
    for (const kind of step.stateOf(slice)) {
      if (kind === 'parameter') continue; // loaded whole above
      const { parameterOffset, length } = slice;
      const values = whole.get(`${kind}/${slice.name}`)!.subarray(parameterOffset, parameterOffset + length);
      step.writeState(kind, slice, values);
    }
}

const lossesOf = (outcomes: readonly Outcome[]): readonly number[] =>
  outcomes[0]!.losses.map((_, step) => outcomes.reduce((sum, { losses }) => sum + losses[step]!, 0));

function assertEqual(found: readonly Outcome[], expected: readonly Outcome[], limit = 1e-5): void {
  const relative = (a: number, b: number, what: string) =>
    assert.ok(Math.abs(a - b) <= limit * Math.abs(b), `${what}: ${a}, expected ${b}`);
  const losses = lossesOf(expected);
  for (const [step, loss] of lossesOf(found).entries()) relative(loss, losses[step]!, `loss of step ${step}`);
  for (const { norms, parameters } of found) {
    for (const [step, norm] of norms.entries()) relative(norm, expected[0]!.norms[step]!, `norm of step ${step}`);
    for (const [name, values] of expected[0]!.parameters) {
      assert.deepEqual(parameters.get(name), found[0]!.parameters.get(name), `${name} on all ranks`);
      // Relative to the parameter as a whole: single elements pass through zero.
      const size = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0)) + 1e-3;
      const error = Math.sqrt(parameters.get(name)!.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0));
      assert.ok(error <= limit * size, `${name} differs by ${error} of ${size}`);
    }
  }
}

const widths = fc.record({
  family: fc.constantFrom('gpt2', 'llama'),
  layers: fc.integer({ min: 1, max: 3 }),
  width: fc.constantFrom(8, 12, 20),
  isTied: fc.boolean(),
});

const modelOf = ({ family, layers, width, isTied }: typeof widths extends fc.Arbitrary<infer T> ? T : never) =>
  family === 'gpt2'
    ? modelFromConfig({
        model_type: 'gpt2',
        n_layer: layers,
        n_head: 2,
        n_embd: width,
        n_positions: 32,
        vocab_size: VOCABULARY,
      })
    : modelFromConfig({
        model_type: 'llama',
        hidden_size: width,
        intermediate_size: width + 3,
        num_hidden_layers: layers,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 32,
        vocab_size: VOCABULARY,
        tie_word_embeddings: isTied,
      });

test('random models train the same at any stage on any number of ranks', async () => {
  await fc.assert(
    fc.asyncProperty(
      widths,
      fc.constantFrom<ZeroStage>(0, 1, 2, 3),
      fc.constantFrom(1, 2, 4),
      fc.integer({ min: 1, max: 2 }),
      async (shape, zeroStage, worldSize, perRank) => {
        const job = { model: () => modelOf(shape), micros: worldSize * perRank, steps: [1, 3] } as const;
        const alone = await run({ ...job, zeroStage: 0, worldSize: 1 });
        assertEqual(await run({ ...job, zeroStage, worldSize }), alone);
      },
    ),
    { numRuns: 20 },
  );
});

test('with one micro-batch per rank, stage 2 gives the bits of stage 1', async () => {
  for (const worldSize of [2, 4]) {
    const job = { model: tinyLlama, worldSize, micros: worldSize, steps: [1, 4] } as const;
    const [first, second] = [await run({ ...job, zeroStage: 1 }), await run({ ...job, zeroStage: 2 })];
    assert.deepEqual(
      second.map(({ losses, norms, parameters, pieces }) => ({ losses, norms, parameters, pieces })),
      first.map(({ losses, norms, parameters, pieces }) => ({ losses, norms, parameters, pieces })),
    );
  }
});

test('stage 3 gives the bits of stage 2, however parameters are kept, fetched ahead or made again', async () => {
  const bits = (outcomes: readonly Outcome[]) =>
    outcomes.map(({ losses, norms, parameters, pieces }) => ({ losses, norms, parameters, pieces }));
  const settings: readonly Partial<ZeroTuning>[] = [
    {},
    { maxReuseDistance: 1e9 },
    { overlapComm: false },
    { prefetchBucketSize: 0 },
    { maxLiveParameters: 0 },
    { maxReuseDistance: 1e9, maxLiveParameters: 3000, prefetchBucketSize: 1 },
  ];
  for (const [model, worldSize] of [
    [tinyGpt2, 2],
    [tinyLlama, 3],
  ] as const) {
    for (const [recompute, dropout] of [
      ['none', 0],
      ['full', 0.1],
    ] as const) {
      const job = { model, worldSize, micros: 2 * worldSize, steps: [1, 3], recompute, dropout } as const;
      const expected = bits(await run({ ...job, zeroStage: 2 }));
      for (const tuning of settings)
        assert.deepEqual(bits(await run({ ...job, zeroStage: 3, tuning: { ...TIGHT, ...tuning } })), expected);
    }
  }
});

test('small parameters that persist, and buckets cut finer, change nothing but the order of sums', async () => {
  const job = { model: tinyLlama, micros: 4, steps: [1, 3] } as const;
  const alone = await run({ ...job, zeroStage: 0, worldSize: 1 });
  for (const tuning of [
    { paramPersistenceThreshold: 100 },
    { paramPersistenceThreshold: 1e5 },
    { paramPersistenceThreshold: 300, modelPersistenceThreshold: 400 },
    { ...TIGHT, reduceBucketSize: 300 },
  ])
    assertEqual(await run({ ...job, zeroStage: 3, worldSize: 2, tuning }), alone);
});

test('an adapter over a frozen model trains the same at every stage', async () => {
  const config = { r: 2, lora_alpha: 6, target_modules: ['q_proj', 'v_proj', 'down_proj'] };
  const job = { model: () => withAdapter(tinyLlama(), adapterFromConfig(config)), micros: 4, steps: [1, 3] } as const;
  const alone = await run({ ...job, zeroStage: 0, worldSize: 1 });
  for (const zeroStage of [1, 2, 3] as const) assertEqual(await run({ ...job, zeroStage, worldSize: 2 }), alone);
});

test('in 16 bits every stage on any number of ranks trains the same, up to a rounding of a few parameters', async () => {
  for (const dtype of ['bf16', 'f16'] as const) {
    const job = { model: tinyLlama, micros: 4, steps: [1, 4], dtype } as const;
    const alone = await run({ ...job, zeroStage: 0, worldSize: 1 });
    for (const [zeroStage, worldSize] of [
      [0, 2],
      [1, 2],
      [2, 2],
      [2, 4],
      [3, 2],
      [3, 4],
    ] as const) {
      assertEqual(await run({ ...job, zeroStage, worldSize }), alone, dtype === 'bf16' ? 1e-2 : 2e-3);
    }
  }
});

for (const zeroStage of [1, 3] as const)
  test(`at stage ${zeroStage} an overflow on one rank skips the step on all`, async () => {
    const communicators = await joinAll(2);
    const outcomes = await Promise.all(
      communicators.map(async (communicator, rank) => {
        using opened = openDevice(1);
        const model = tinyGpt2();
        const strategy = { zeroStage, mesh: meshOf({ data: 2 }), rank, tuning: TIGHT };
        const common = { model, rows: ROWS, strategy, optimizer: SMOOTH, dtype: 'f16' } as const;
        await using step = TrainStep.create({
          ...common,
          device: opened.device,
          communicators: { zero: communicator },
        });
        initialise(model, 3, step.parameters);
        const batch = randomBatch([9], ROWS, VOCABULARY, `${rank}`);
        const snapshot = async () => {
          const parameters: Float32Array[] = [];
          for (const { name } of step.parameters.parameters) parameters.push(await step.gatherParameter(name));
          return [
            ...parameters,
            ...step.slices.flatMap((slice) => step.stateOf(slice).map((kind) => step.readState(kind, slice))),
          ];
        };
        const lossScale = 256;
        await step.micro(batch, { scale: 0.05, isFirst: true, lossScale });
        const good = await step.update({ lr: 1e-2, step: 1, lossScale });
        const before = await snapshot();
        // Beyond 65504 gradients are infinite in f16.
        await step.micro(batch, { scale: rank === 1 ? 1e9 : 0.05, isFirst: true, lossScale });
        const bad = await step.update({ lr: 1e-2, step: 2, lossScale });
        assert.deepEqual(await snapshot(), before);
        return [good.isSkipped, bad.isSkipped];
      }),
    );
    assert.deepEqual(outcomes, [
      [false, true],
      [false, true],
    ]);
    for (const communicator of communicators) communicator?.dispose();
  });

test('a job goes on at another stage with another number of ranks', async () => {
  const job = { model: tinyGpt2, micros: 4 } as const;
  const whole = await run({ ...job, zeroStage: 2, worldSize: 2, steps: [1, 4] });
  const half = await run({ ...job, zeroStage: 2, worldSize: 2, steps: [1, 2] });
  for (const [zeroStage, worldSize] of [
    [0, 1],
    [1, 2],
    [2, 4],
    [3, 2],
    [3, 4],
  ] as const) {
    const rest = await run({ ...job, zeroStage, worldSize, steps: [3, 4], resumeFrom: half });
    const expected = whole.map((outcome) => ({
      ...outcome,
      losses: outcome.losses.slice(2),
      norms: outcome.norms.slice(2),
    }));
    assertEqual(rest, expected);
  }
});

const COMMON = { weightDecay: 0.1, maxGradientNorm: 1 };
/** Every optimiser beside AdamW, and a learning rate at which steps are small. */
const OTHERS: readonly (readonly [OptimizerSettings, number])[] = [
  [{ kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false }, 1e-1],
  [{ kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true }, 1e-1],
  [{ kind: 'adagrad', ...COMMON, eps: 1e-3, lrDecay: 0.1, initialSum: 0.01 }, 1e-2],
  // A sign turns rounding of a gradient near zero into a whole step: small ones.
  [{ kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 }, 1e-6],
  [
    {
      kind: 'muon',
      ...COMMON,
      momentum: 0.95,
      isNesterov: true,
      iterations: 5,
      adam: { beta1: 0.9, beta2: 0.95, eps: 1e-2, rateRatio: 0.5 },
    },
    1e-2,
  ],
];

for (const [optimizer, lr] of OTHERS) {
  test(`${optimizer.kind}: any stage on any number of ranks, and going on at another, are one run on one rank`, async () => {
    for (const model of [tinyGpt2, tinyLlama]) {
      const job = { model, micros: 4, optimizer, lr } as const;
      const alone = await run({ ...job, zeroStage: 0, worldSize: 1, steps: [1, 4] });
      for (const [zeroStage, worldSize] of [
        [0, 2],
        [1, 2],
        [2, 2],
        [2, 4],
        [3, 4],
      ] as const) {
        const ranks = await run({ ...job, zeroStage, worldSize, steps: [1, 4] });
        assertEqual(ranks, alone);
        const half = await run({ ...job, zeroStage, worldSize, steps: [1, 2] });
        const rest = await run({ ...job, zeroStage: 1, worldSize: 4, steps: [3, 4], resumeFrom: half });
        const last = (values: readonly number[]) => values.slice(2);
        assertEqual(
          rest,
          alone.map((outcome) => ({ ...outcome, losses: last(outcome.losses), norms: last(outcome.norms) })),
        );
      }
    }
  });
}

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
