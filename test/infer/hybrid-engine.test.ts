// Training and generation in turns over the same weights: the tokens that exporting and loading in between would give, in the
// memory that was planned.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LowRankSum, layoutOf, type Mesh, meshOf, ParameterStore, type TrainStep } from '#src/engine/index.js';
import {
  type GenerateOptions,
  type Generation,
  Generator,
  HybridEngine,
  type HybridSettings,
} from '#src/infer/index.js';
import {
  adapterFromConfig,
  Checkpoint,
  initialise,
  isAdapted,
  type Model,
  mergedWeights,
  saveModel,
  withAdapter,
  withNf4,
} from '#src/models/index.js';
import { openDevice } from '../engine/device-for-tests.js';
import { FAMILIES, VOCABULARY } from '../engine/families-for-tests.js';
import { createStep, type Job, trainRank } from '../engine/job-for-tests.js';
import { joinMesh } from '../engine/meshes-for-tests.js';
import { OPTIMIZER, tinyGpt2, tinyLlama } from '../engine/models-for-tests.js';

const PROMPTS = [[1, 2, 3], [7], [11, 5, 30, 2, 9]];
const OPTIONS: GenerateOptions = { maxNewTokens: 12, doSample: true, seed: 7 };
const SIZES = { maxOutTokens: 32, slots: 4, prefillRows: 16 };

const lora = (base: Model) =>
  withAdapter(
    base,
    adapterFromConfig(
      {
        peft_type: 'LORA',
        r: 4,
        lora_alpha: 8,
        target_modules: ['q_proj', 'v_proj'],
        bias: 'none',
        task_type: 'CAUSAL_LM',
      },
      'adapter',
    ),
  );

const job = (more: Partial<Job>): Job => ({
  model: tinyLlama(),
  rows: 16,
  mesh: meshOf(),
  zeroStage: 0,
  micros: 2,
  steps: 2,
  lr: 0.05,
  optimizer: OPTIMIZER,
  seed: 'hybrid',
  ...more,
});

/** What one who saves the model and opens it again generates. */
async function afterExport(train: TrainStep, model: Model, isWriter: boolean): Promise<readonly Generation[] | null> {
  const folder = await mkdtemp(join(tmpdir(), 'raylite-hybrid-'));
  try {
    const plain = (name: string) => train.gatherParameter(name);
    using sum = new LowRankSum(train.parameters.device);
    const dtype = train.parameters.layout.dtype;
    const [written, read] = isAdapted(model) ? [model.base, mergedWeights(model, plain, sum)] : [model, plain];
    await saveModel(folder, written, read, { dtype });
    if (!isWriter) return null;
    using opened = openDevice(1);
    await using checkpoint = await Checkpoint.open(folder);
    using store = new ParameterStore(opened.device, layoutOf(checkpoint.model, dtype));
    await checkpoint.loadInto(store);
    using generator = new Generator({ model: checkpoint.model, store, slots: 4, positions: 32, prefillRows: 16 });
    return await generator.generate(PROMPTS, OPTIONS);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** What `use` makes of every rank of a job, each on a device of its own. */
async function onRanks<T>(wanted: Job, use: (train: TrainStep, rank: number) => Promise<T>): Promise<readonly T[]> {
  const groups = await joinMesh(wanted.mesh);
  try {
    return await Promise.all(
      groups.of.map(async (communicators, rank) => {
        using opened = openDevice(1);
        await using train = createStep(wanted, rank, communicators, opened.device);
        return await use(train, rank);
      }),
    );
  } finally {
    groups.dispose();
  }
}

/** Trains, generates, trains and generates again, on all ranks; compares each with exporting at that moment. */
async function expectTokensOfExport(more: Partial<Job>, settings: Partial<HybridSettings> = {}): Promise<void> {
  const wanted = job(more);
  await onRanks(wanted, async (train, rank) => {
    using hybrid = new HybridEngine(train, { model: wanted.model, ...SIZES, ...settings });
    const texts: string[] = [];
    for (let round = 0; round < 2; round++) {
      await trainRank(wanted, train, rank, 1 + round * wanted.steps);
      const found = await hybrid.generate(PROMPTS, OPTIONS);
      const exported = await afterExport(train, wanted.model, rank === 0);
      if (exported) assert.deepEqual(found, exported);
      texts.push(JSON.stringify(found));
    }
    assert.notEqual(texts[0], texts[1]);
  });
}

test('the very memory that is trained generates what the exported model generates', () => expectTokensOfExport({}));

test('in bf16 too, at ZeRO stage 1', () =>
  expectTokensOfExport({ dtype: 'bf16', mesh: meshOf({ data: 2 }), zeroStage: 1 }));

test('adapters are added in on the fly, over a base in floats and in 4 bits', async () => {
  await expectTokensOfExport({ model: lora(tinyLlama()) });
  await expectTokensOfExport({ model: withNf4(lora(tinyLlama()), { isDouble: true }) }, { pinParameters: false });
});

test('ranks of ZeRO stage 3 gather, and stages of a pipeline hand each other what they lack', async () => {
  await expectTokensOfExport({ mesh: meshOf({ data: 2 }), zeroStage: 3 });
  await expectTokensOfExport({ mesh: meshOf({ pipeline: 2 }), model: tinyGpt2() }, { releaseInferenceCache: true });
});

test('ranks that decode together give the tokens of one, and its log-probabilities: every family, greedy, drawn and by beams', async () => {
  const asked: readonly (readonly [string, GenerateOptions])[] = [
    ['greedy', { maxNewTokens: 12, doSample: false, topLogProbs: 2, hasStepLogits: true }],
    ['drawn', OPTIONS],
    ['beams', { maxNewTokens: 6, numBeams: 3 }],
  ];
  const generated = async (model: Model, axes: Partial<Mesh>, zeroStage: Job['zeroStage'] = 0) => {
    const wanted = job({ model, mesh: meshOf(axes), zeroStage });
    return await onRanks(wanted, async (train, rank) => {
      const { device } = train.parameters;
      await trainRank({ ...wanted, steps: 1 }, train, rank);
      const before = device.allocatedBytes;
      using hybrid = new HybridEngine(train, { model, ...SIZES });
      const found: (readonly Generation[])[] = [];
      for (const [, options] of asked) found.push(await hybrid.generate(PROMPTS, options));
      assert.equal(device.allocatedBytes - before, hybrid.memory.generation.totalBytes);
      return { found, generation: hybrid.memory.generation, hasOwnWeights: hybrid.hasOwnWeights };
    });
  };
  const layouts: readonly (readonly [Partial<Mesh>, Job['zeroStage'], boolean])[] = [
    [{ data: 2, generation: 2 }, 0, true],
    [{ tensor: 2, generation: 2 }, 1, false], // over the very memory that is trained
    [{ tensor: 2, data: 2, generation: 4 }, 3, true],
  ];
  for (const family of ['gpt2', 'llama with 2 key-value heads', 'qwen3', 'gpt_neox in parallel', 'opt', 'mistral']) {
    const model = FAMILIES[family]!();
    const kvHeads = /^(gpt|opt)/.test(family) ? 4 : 2;
    const [alone] = await generated(model, {});
    for (const [axes, zeroStage, hasOwnWeights] of layouts) {
      const ranks = await generated(model, axes, zeroStage);
      for (const { found, generation, ...rank } of ranks) {
        assert.equal(rank.hasOwnWeights, hasOwnWeights);
        assert.deepEqual(found, ranks[0]!.found, 'all ranks find the same');
        const parts = Math.min(axes.generation!, kvHeads); // with fewer heads than ranks, neighbours have the same
        assert.equal(generation.cacheBytes, alone!.generation.cacheBytes / parts, `${family}: keys and values`);
        for (const [kind, generations] of found.entries())
          for (const [index, { ids, logProbs, score, stepLogits }] of generations.entries()) {
            const expected = alone!.found[kind]![index]!;
            assert.deepEqual(ids, expected.ids, `${family}, ${asked[kind]![0]}`);
            const near = (value: number, other: number) =>
              assert.ok(Math.abs(value - other) < 1e-4, `${family}, ${asked[kind]![0]}: ${value}, expected ${other}`);
            for (const [token, value] of logProbs.entries()) near(value, expected.logProbs[token]!);
            if (score !== null) near(score, expected.score!);
            for (const [token, logits] of stepLogits.entries()) {
              assert.equal(logits.length, VOCABULARY);
              for (const [id, value] of logits.entries()) near(value, expected.stepLogits[token]![id]!);
            }
          }
      }
    }
  }
});

test('in 16 bits and with adapters too; ranks that are asked different things say so', async () => {
  await expectTokensOfExport({ dtype: 'bf16', mesh: meshOf({ tensor: 2 }), zeroStage: 1 });
  const wanted = job({ model: lora(tinyLlama()), mesh: meshOf({ data: 2, generation: 2 }) });
  await onRanks(wanted, async (train, rank) => {
    await trainRank(wanted, train, rank);
    using hybrid = new HybridEngine(train, { model: wanted.model, ...SIZES });
    const found = await hybrid.generate(PROMPTS, OPTIONS);
    const exported = await afterExport(train, wanted.model, rank === 0);
    if (exported)
      assert.deepEqual(
        found.map(({ ids }) => ids),
        exported.map(({ ids }) => ids),
      );
    await assert.rejects(hybrid.generate([[rank + 1]], OPTIONS), /generate: expected the same prompts and options/);
    assert.deepEqual(await hybrid.generate(PROMPTS, OPTIONS), found);
  });
});

test('generation takes the memory that was planned, and gives back what it is told to', async () => {
  using opened = openDevice(1);
  const { device } = opened;
  for (const model of [tinyLlama(), lora(tinyLlama())]) {
    await using train = createStep(job({ model }), 0, {}, device);
    initialise(model, 3, train.parameters);
    const before = device.allocatedBytes;
    const during = async (settings: Partial<HybridSettings>) => {
      using hybrid = new HybridEngine(train, { model, ...SIZES, ...settings });
      await hybrid.generate(PROMPTS, OPTIONS);
      return { kept: device.allocatedBytes - before, ...hybrid.memory.generation };
    };
    const all = await during({});
    assert.equal(all.weightBytes > 0, isAdapted(model));
    assert.ok(all.cacheBytes > 0 && all.programBytes > 0);
    assert.equal(all.kept, all.totalBytes);
    assert.equal((await during({ releaseInferenceCache: true })).kept, all.weightBytes);
    assert.equal((await during({ releaseInferenceCache: true, pinParameters: false })).kept, 0);
    assert.equal(device.allocatedBytes, before);
  }
});
