// Drawn jobs: models, batches and ways to share the work, each held against one rank that does all of it. 20 of them, always the same;
// `npm test -- --nightly --only strategies` draws 200 others, `--seed N` those of a failure.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { type FloatType, type Mesh, meshOf, type OptimizerSettings, type Recompute } from '#src/engine/index.js';
import { type Model, modelFromConfig, seededRandom } from '#src/models/index.js';
import { type MeshJob, runMesh } from './meshes-for-tests.js';
import { OPTIMIZER, randomBatch } from './models-for-tests.js';

const IS_NIGHTLY = process.env.RAYLITE_TEST_NIGHTLY === '1';
const SEED = Number(process.env.RAYLITE_TEST_SEED ?? (IS_NIGHTLY ? randomInt(2 ** 31) : 5));
const RANKS_MAX = 8;

/** What is drawn, as a failure shows it. */
interface Draw {
  readonly family: 'gpt2' | 'llama' | 'gpt_neox';
  readonly isTied: boolean;
  readonly layers: number;
  readonly rows: number;
  readonly mesh: Mesh;
  readonly zeroStage: 0 | 1 | 2 | 3;
  /** Of each data parallel rank. */
  readonly accumulation: number;
  readonly recompute: Recompute;
  readonly sequenceParallelNorms: boolean;
  readonly dropout: number | null;
  readonly dtype: FloatType;
  readonly optimizer: OptimizerSettings['kind'];
  readonly maxGradientNorm: number;
  readonly labelSmoothing: number;
  readonly zLoss: number;
  readonly batches: number;
}

const draws: fc.Arbitrary<Draw> = fc
  .record({
    family: fc.constantFrom('gpt2', 'llama', 'gpt_neox'),
    isTied: fc.boolean(),
    layers: fc.integer({ min: 2, max: 4 }),
    rows: fc.constantFrom(8, 16, 24),
    data: fc.integer({ min: 1, max: 3 }),
    tensor: fc.integer({ min: 1, max: 2 }),
    sequence: fc.integer({ min: 1, max: 2 }),
    pipeline: fc.integer({ min: 1, max: 4 }),
    chunks: fc.integer({ min: 1, max: 2 }),
    zeroStage: fc.constantFrom(0, 1, 2, 3),
    accumulation: fc.integer({ min: 1, max: 3 }),
    recompute: fc.constantFrom<Recompute>('none', 'cheap', 'full', { every: 2 }),
    sequenceParallelNorms: fc.boolean(),
    dropout: fc.constantFrom(null, 0.1),
    dtype: fc.constantFrom<FloatType>('f32', 'f32', 'f32', 'bf16'),
    optimizer: fc.constantFrom('adamw', 'sgd', 'adagrad'),
    maxGradientNorm: fc.constantFrom(0, 0.5),
    labelSmoothing: fc.constantFrom(0, 0.1),
    zLoss: fc.constantFrom(0, 1e-3),
    batches: fc.integer({ min: 0, max: 1000 }),
  })
  .map(({ data, tensor, sequence, pipeline, chunks, ...rest }): Draw => {
    const stages = Math.min(pipeline, rest.layers, Math.floor(RANKS_MAX / (tensor * sequence)));
    const parts = stages > 1 && stages * chunks <= rest.layers ? chunks : 1;
    const copies = Math.min(data, Math.floor(RANKS_MAX / (tensor * sequence * stages)));
    const mesh = meshOf({ tensor, sequence, data: copies, pipeline: stages, chunks: parts });
    return {
      ...rest,
      mesh,
      zeroStage: stages > 1 && rest.zeroStage > 1 ? 1 : rest.zeroStage,
      accumulation: rest.accumulation * (parts > 1 ? stages : 1),
    } as Draw;
  });

function modelOf({ family, isTied, layers }: Draw): Model {
  const tie = { tie_word_embeddings: isTied };
  switch (family) {
    case 'gpt2':
      return modelFromConfig({
        model_type: family,
        n_layer: layers,
        n_head: 4,
        n_embd: 16,
        n_positions: 32,
        vocab_size: 37,
        ...tie,
      });
    case 'llama':
      return modelFromConfig({
        model_type: family,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 32,
        vocab_size: 37,
        ...tie,
      });
    case 'gpt_neox':
      return modelFromConfig({
        model_type: family,
        hidden_size: 16,
        intermediate_size: 32,
        rotary_pct: 0.5,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        max_position_embeddings: 32,
        vocab_size: 37,
        ...tie,
      });
  }
}

/** Steps follow the gradient smoothly, so that rounding stays rounding. */
function optimizerOf({ optimizer, maxGradientNorm }: Draw): OptimizerSettings {
  const common = { weightDecay: 0.1, maxGradientNorm };
  switch (optimizer) {
    case 'sgd':
      return { kind: 'sgd', momentum: 0.9, dampening: 0, isNesterov: false, ...common };
    case 'adagrad':
      return { kind: 'adagrad', eps: 1e-2, lrDecay: 0, initialSum: 0.1, ...common };
    default:
      return { ...OPTIMIZER, eps: 1e-2, ...common };
  }
}

const jobOf = (draw: Draw): MeshJob => {
  const model = modelOf(draw);
  return {
    model: () => model,
    rows: draw.rows,
    mesh: draw.mesh,
    zeroStage: draw.zeroStage,
    micros: draw.accumulation * draw.mesh.data,
    optimizer: optimizerOf(draw),
    dtype: draw.dtype,
    recompute: draw.recompute,
    sequenceParallelNorms: draw.sequenceParallelNorms,
    dropout: draw.dropout,
    loss: { labelSmoothing: draw.labelSmoothing, zLoss: draw.zLoss },
    batch: (seed, rows) => {
      const random = seededRandom(`lengths ${draw.batches}/${seed}`);
      const first = 2 + Math.floor(random() * (rows - 2));
      const second = Math.floor(random() * (rows - first));
      return randomBatch(second > 0 ? [first, second] : [first], rows, model.vocabularySize, `${draw.batches}/${seed}`);
    },
  };
};

/** Whether every sum runs over the same numbers in the same order. */
function isSameOrder({ mesh, isTied, maxGradientNorm }: Draw): boolean {
  const { pipeline, ...others } = mesh;
  if (others.tensor * others.sequence * others.data > 1) return false;
  return pipeline === 1 || (!isTied && maxGradientNorm === 0);
}

function expectClose(what: string, found: readonly number[], wanted: readonly number[], limit: number): void {
  assert.equal(found.length, wanted.length, what);
  const size = Math.max(...wanted.map(Math.abs), 1e-3);
  for (const [i, value] of wanted.entries())
    assert.ok(Math.abs(found[i]! - value) <= limit * size, `${what}[${i}]: ${found[i]} instead of ${value}`);
}

test(`drawn strategies train as one rank (seed ${SEED})`, async () => {
  const property = fc.asyncProperty(draws, async (draw) => {
    const job = jobOf(draw);
    const shared = await runMesh({ ...job, hasEvaluation: true });
    const hasMasks = draw.dropout !== null;
    const alone = await runMesh({
      ...job,
      ...{ mesh: meshOf(), zeroStage: 0, recompute: 'none', hasEvaluation: hasMasks },
    });
    assert.equal(new Set(shared.hashes).size, 1, 'every rank has the hash of the job');
    const limit = isSameOrder(draw) ? 0 : draw.dtype === 'f32' ? 1e-5 : 2e-2;
    expectClose('losses', shared.losses, alone.losses, limit);
    // What measures the model drops nothing.
    expectClose('evaluations', shared.evaluations, hasMasks ? alone.evaluations : alone.losses, limit);
    // Stages add up their parts of a norm.
    expectClose('gradient norms', shared.norms, alone.norms, Math.max(limit, draw.mesh.pipeline > 1 ? 1e-6 : 0));
    assert.deepEqual([...shared.parameters.keys()].sort(), [...alone.parameters.keys()].sort());
    // In 16 bits small weights are made of few gradients, each rounded on its way.
    for (const [name, values] of alone.parameters)
      expectClose(name, [...shared.parameters.get(name)!], [...values], draw.dtype === 'f32' ? limit : 3 * limit);
  });
  await fc.assert(property, { seed: SEED, numRuns: IS_NIGHTLY ? 200 : 20 });
});
