// Measuring a model between two steps: its weights as they are and shared out as they are, nothing dropped, nothing of training changed.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ConfigError } from '#src/common/index.js';
import { compileStep, type ParameterOffload, TrainStep } from '#src/engine/index.js';
import { adapterFromConfig, initialise, initialiseAdapter, modelFromConfig, withAdapter } from '#src/models/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { openDevice } from './device-for-tests.js';
import { assertSame, type MeshJob, runMesh } from './meshes-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());

const ON_DISK: ParameterOffload = {
  hostElementsMax: 0,
  buffers: 3,
  bufferElements: 1,
  file: {
    folder: join(folder.path, 'slices'),
    ...{ blockBytes: 4096, queueDepth: 4, threads: 1, singleSubmit: false, overlapEvents: true },
  },
};
const deepGpt2 = () => modelFromConfig({ ...tinyGpt2().config, n_layer: 4 });

const CASES: Readonly<Record<string, MeshJob>> = {
  'one rank': { model: tinyGpt2 },
  'parameters gathered by the block': {
    ...{ model: tinyLlama, mesh: { data: 2 }, zeroStage: 3 },
    tuning: { maxReuseDistance: 0, paramPersistenceThreshold: 0 },
  },
  'parameters on disk': {
    ...{ model: tinyGpt2, mesh: { data: 2 }, zeroStage: 3 },
    tuning: { offloadParam: ON_DISK, maxReuseDistance: 0 },
  },
  'secondary slices on each machine': {
    ...{ model: tinyGpt2, mesh: { data: 4, zeroInner: 2 }, zeroStage: 3, micros: 4 },
    tuning: { maxReuseDistance: 0, paramPersistenceThreshold: 0 },
  },
  'an offloaded optimizer at stage 2': {
    ...{ model: tinyGpt2, mesh: { data: 2 }, zeroStage: 2 },
    offload: { optimizer: { device: 'cpu' } },
  },
  'tensor ranks that share the rows of norms': {
    ...{ model: tinyLlama, mesh: { tensor: 2, data: 2 }, sequenceParallelNorms: true },
  },
  'ranks that share a sequence': { model: tinyGpt2, mesh: { sequence: 2 }, zeroStage: 1 },
  'stages with two parts each': { model: deepGpt2, mesh: { pipeline: 2, chunks: 2 }, zeroStage: 1, micros: 4 },
  'stages of tensor ranks': { model: deepGpt2, mesh: { pipeline: 2, tensor: 2 }, micros: 3 },
};

for (const [what, job] of Object.entries(CASES))
  test(`${what}: the loss of each step is measured without a backward, and training goes on as without`, async () => {
    const measured = await runMesh({ ...job, hasEvaluation: true });
    const plain = await runMesh(job);
    assertSame(measured, plain, 0);
    for (const [step, loss] of measured.evaluations.entries())
      assert.ok(Math.abs(loss - plain.losses[step]!) <= 1e-6 * plain.losses[step]!, `${loss} at step ${step}`);
  });

test('nothing is dropped, neither by the model nor by its adapter', async () => {
  const batch = randomBatch([9, 6], 16, 37, 'evaluation');
  const adapter = adapterFromConfig({ r: 2, lora_alpha: 4, lora_dropout: 0.5, target_modules: 'all-linear' });
  const losses = async (dropout: 'model' | null) => {
    using opened = openDevice();
    const model = withAdapter(tinyGpt2(), adapter);
    const job = { model, rows: 16, strategy: ALONE, optimizer: OPTIMIZER, dropout, hasEvaluation: true };
    await using step = TrainStep.create({ ...job, device: opened.device });
    initialise(model.base, 1, step.parameters);
    initialiseAdapter(model, 2, step.parameters);
    const scale = 1 / labelled(batch);
    const { loss } = await step.micro(batch, { scale, isFirst: true, step: 3 });
    const evaluation = await step.evaluate([batch, batch], scale / 2);
    return { loss, evaluation };
  };
  const [dropped, whole] = [await losses('model'), await losses(null)];
  assert.ok(Math.abs(dropped.loss - whole.loss) > 1e-3);
  assert.equal(dropped.evaluation, whole.evaluation);
  assert.ok(Math.abs(whole.evaluation - whole.loss) < 1e-6);
});

test('it works in the memory of training: no more than its own batch is added', () => {
  const settings = { model: deepGpt2(), rows: 64, strategy: ALONE, optimizer: OPTIMIZER };
  const [plain, measured] = [compileStep(settings).memory, compileStep({ ...settings, hasEvaluation: true }).memory];
  assert.deepEqual({ ...measured, batchBytes: 0, totalBytes: 0 }, { ...plain, batchBytes: 0, totalBytes: 0 });
  assert.ok(measured.batchBytes > plain.batchBytes && measured.batchBytes <= 2 * plain.batchBytes);
});

test('a job that was not compiled for it is refused', async () => {
  using opened = openDevice();
  const model = tinyGpt2();
  await using step = TrainStep.create({
    model,
    rows: 16,
    strategy: ALONE,
    optimizer: OPTIMIZER,
    device: opened.device,
  });
  await assert.rejects(step.evaluate([], 1), (error: ConfigError) => error.path === 'hasEvaluation');
});
