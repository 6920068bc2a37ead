// LoRA adapters: what they cost, what they leave alone, and that saving, loading and merging keep what was trained.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  compileForward,
  Forward,
  LowRankSum,
  layoutOf,
  lossGraph,
  ParameterStore,
  TrainStep,
} from '#src/engine/index.js';
import {
  adapterFromConfig,
  adapterParameters,
  initialise,
  initialiseAdapter,
  loadAdapter,
  mergedWeights,
  modelFromConfig,
  readAdapter,
  SafetensorsFile,
  saveAdapter,
  savedLabelCount,
  withAdapter,
} from '#src/models/index.js';
import { openDevice } from '../engine/device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from '../engine/models-for-tests.js';

const ROWS = 16;
const CONFIG = { r: 2, lora_alpha: 6, target_modules: ['q_proj', 'v_proj', 'down_proj'] };
const GPT2_LORA = adapterFromConfig({ r: 2, lora_alpha: 4, lora_dropout: 0.1, target_modules: 'all-linear' });
const SETTINGS = { rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER } as const;
const BATCH = randomBatch([9, 6], ROWS, 37, 'adapter');

/** A tiny LLaMA with an adapter, trained for three steps. */
function trainable(device: Parameters<typeof TrainStep.create>[0]['device']) {
  const model = withAdapter(tinyLlama(), adapterFromConfig(CONFIG));
  const job = { model, rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER };
  const step = TrainStep.create({ ...job, device });
  initialise(model.base, 1, step.parameters);
  initialiseAdapter(model, 2, step.parameters);
  return { model, step };
}

async function train(step: TrainStep): Promise<readonly number[]> {
  const losses: number[] = [];
  for (let n = 1; n <= 3; n++) {
    losses.push((await step.micro(BATCH, { scale: 1 / labelled(BATCH), isFirst: true })).loss);
    await step.update({ lr: 0.05, step: n });
  }
  return losses;
}

test('an adapter alone has gradients and optimiser state, and the base stays as it was', async () => {
  using opened = openDevice();
  const { model, step } = trainable(opened.device);
  await using _ = step;
  const adapterElements = adapterParameters(model).reduce((sum, { dims }) => sum + dims[0]! * dims[1]!, 0);
  const { memory, layout } = step.compiled;
  assert.ok(layout.elements < 2 * adapterElements, `${layout.elements} elements are trained, not ${adapterElements}`);
  assert.equal(memory.gradientBytes, 4 * layout.elements);
  assert.equal(memory.optimizerBytes, 8 * layout.elements);
  const names = layoutOf(model.base).buckets.flatMap(({ parameters }) => parameters.map(({ name }) => name));
  const before = names.map((name) => step.readParameter(name));
  const losses = await train(step);
  assert.ok(losses[2]! < losses[0]!, losses.join(' '));
  for (const [i, name] of names.entries()) assert.deepEqual(step.readParameter(name), before[i], name);
  assert.throws(() => step.readGradient('model.norm.weight'), /expected the name of a trained parameter/);
});

test('an adapter starts without effect, and merged it gives the same losses', async () => {
  using opened = openDevice();
  const { model, step } = trainable(opened.device);
  await using _ = step;
  const lossOf = async (read: (name: string) => Float32Array | Promise<Float32Array>) => {
    using store = new ParameterStore(opened.device, layoutOf(model.base));
    for (const { name } of store.parameters) store.load(name, await read(name));
    using forward = new Forward({ model: model.base, rows: ROWS }, store);
    return (await forward.run(BATCH)).loss;
  };
  const plain = await lossOf((name) => step.readParameter(name));
  const [first] = await train(step);
  assert.ok(Math.abs(first! * labelled(BATCH) - plain) < 1e-4);
  using adapted = new Forward({ model, rows: ROWS, hasLogits: true }, step.parameters);
  using sum = new LowRankSum(opened.device);
  const merged = await lossOf(mergedWeights(model, (name) => step.readParameter(name), sum));
  assert.ok(Math.abs((await adapted.run(BATCH)).loss - merged) < 1e-4);
});

test('an adapter drops its input in training alone, with masks of its own, the same on any number of workers', async () => {
  const lora = adapterFromConfig({ ...CONFIG, lora_dropout: 0.25 });
  const { ops } = lossGraph(withAdapter(tinyGpt2(), GPT2_LORA), ROWS, {}, 'model');
  const streams = ops.filter(({ kind }) => kind === 'dropout').map(({ attributes }) => attributes.stream);
  assert.equal(new Set(streams).size, streams.length, 'no two share their masks');
  const model = withAdapter(tinyLlama(), lora);
  assert.ok(!compileForward({ model, rows: ROWS }, layoutOf(model)).graph.inputs.has('random'));
  const losses = async (dropout: 'model' | null, seed: number) => {
    using opened = openDevice();
    const job = { ...SETTINGS, model, dropout, seed, device: opened.device };
    await using step = TrainStep.create(job);
    initialise(model.base, 1, step.parameters);
    initialiseAdapter(model, 2, step.parameters);
    return await train(step);
  };
  const dropped = await losses('model', 1);
  assert.deepEqual(await losses('model', 1), dropped);
  assert.notDeepEqual(await losses('model', 2), dropped);
  assert.notDeepEqual(await losses(null, 1), dropped);
});

test('an adapter on all linear layers leaves the output matrix alone, in programs that give logits too', () => {
  const model = withAdapter(tinyLlama(), adapterFromConfig({ ...CONFIG, target_modules: 'all-linear' }));
  const layout = layoutOf(model);
  assert.ok(adapterParameters(model).every(({ name }) => name.includes('.layers.')));
  compileForward({ model, rows: ROWS, hasLogits: true }, layout);
});

test('a saved adapter opens again; one for another model is refused', async () => {
  using opened = openDevice();
  const { model, step } = trainable(opened.device);
  await using _ = step;
  await train(step);
  const folder = await mkdtemp(join(tmpdir(), 'adapter-'));
  try {
    await saveAdapter(folder, model, (name) => step.readParameter(name));
    const again = withAdapter(tinyLlama(), await readAdapter(folder));
    const loaded = new Map<string, Float32Array>();
    const target = { load: (name: string, values: Float32Array) => void loaded.set(name, values) };
    await loadAdapter(folder, again, target);
    for (const { name } of adapterParameters(model)) assert.deepEqual(loaded.get(name), step.readParameter(name));
    const other = withAdapter(tinyGpt2(), adapterFromConfig({ ...CONFIG, target_modules: 'all-linear' }));
    await assert.rejects(
      loadAdapter(folder, other, target),
      /down_proj\.lora_A\.weight, which the model has no place for/,
    );
    await writeFile(join(folder, 'adapter_config.json'), '{');
    await assert.rejects(readAdapter(folder), /adapter_config\.json: cannot be read as JSON/);
    assert.ok((await readFile(join(folder, 'adapter_model.safetensors'))).length > 0);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('modules_to_save are trained whole, keep their first values, and are saved under the names of peft', async () => {
  using opened = openDevice();
  const base = modelFromConfig({ ...tinyLlama().config, architectures: ['LlamaForSequenceClassification'] });
  const settings = { ...CONFIG, task_type: 'SEQ_CLS', modules_to_save: ['score'] };
  const model = withAdapter(base, adapterFromConfig(settings));
  const step = TrainStep.create({ ...SETTINGS, model, device: opened.device, communicators: {} });
  await using _ = step;
  initialise(model.base, 1, step.parameters);
  const first = step.readParameter('score.weight');
  initialiseAdapter(model, 2, step.parameters);
  assert.deepEqual(step.readParameter('score.weight'), first);
  const labels = BATCH.labels.map((label) => (label === -100 ? label : label % 2));
  await step.micro({ ...BATCH, labels }, { scale: 1, isFirst: true });
  await step.update({ lr: 0.05, step: 1 });
  const trained = step.readParameter('score.weight');
  assert.notDeepEqual(trained, first);
  const folder = await mkdtemp(join(tmpdir(), 'adapter-'));
  try {
    await saveAdapter(folder, model, (name) => step.readParameter(name));
    await using file = await SafetensorsFile.open(join(folder, 'adapter_model.safetensors'));
    assert.ok(file.tensors.has('base_model.model.score.weight'));
    assert.equal(await savedLabelCount(folder), 2);
    const loaded = new Map<string, Float32Array>();
    await loadAdapter(folder, model, { load: (name, values) => void loaded.set(name, values) });
    assert.deepEqual(loaded.get('score.weight'), trained);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('what would change the numbers and is not supported is refused by key', () => {
  assert.throws(() => adapterFromConfig({ ...CONFIG, use_dora: true }), /adapter_config\.json\.use_dora/);
  assert.throws(() => adapterFromConfig({ ...CONFIG, rank_pattern: { q_proj: 8 } }), /rank_pattern/);
  assert.throws(() => adapterFromConfig({ ...CONFIG, target_modules: '(' }), /target_modules: expected a regular/);
  const nowhere = withAdapter(tinyLlama(), adapterFromConfig({ ...CONFIG, target_modules: ['c_attn'] }));
  assert.throws(() => adapterParameters(nowhere), /adapter: expected targets that are linear layers/);
  assert.equal(adapterFromConfig({ ...CONFIG, r: 4, use_rslora: true }).factor, 3);
});
