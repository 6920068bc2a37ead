// Training and generation in turns over the same weights: the tokens that exporting and loading in between would give, in the
// memory that was planned.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LowRankSum, layoutOf, meshOf, ParameterStore, type TrainStep } from '#src/engine/index.js';
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

/** Trains, generates, trains and generates again, on all ranks; compares each with exporting at that moment. */
async function expectTokensOfExport(more: Partial<Job>, settings: Partial<HybridSettings> = {}): Promise<void> {
  const wanted = job(more);
  const groups = await joinMesh(wanted.mesh);
  try {
    await Promise.all(
      groups.of.map(async (communicators, rank) => {
        using opened = openDevice(1);
        await using train = createStep(wanted, rank, communicators, opened.device);
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
      }),
    );
  } finally {
    groups.dispose();
  }
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
