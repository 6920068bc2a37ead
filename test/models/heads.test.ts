// What sits on a model: scores of sequences, values of tokens, masked tokens, and what their configurations ask for.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Forward, layoutOf, ParameterStore, parameterGraph, type TokenBatch, TrainStep } from '#src/engine/index.js';
import {
  Checkpoint,
  initialise,
  type Model,
  modelFromConfig,
  ropeOf,
  saveModel,
  withValueHead,
} from '#src/models/index.js';
import { openDevice } from '../engine/device-for-tests.js';
import { ALONE, OPTIMIZER, randomBatch } from '../engine/models-for-tests.js';

const LLAMA = {
  model_type: 'llama',
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  vocab_size: 11,
};
const GPT2 = { model_type: 'gpt2', n_layer: 1, n_head: 2, n_embd: 8, n_positions: 16, vocab_size: 11 };
const NEOX = { ...LLAMA, model_type: 'gpt_neox', rotary_pct: 0.5 };
const OPT = { ...LLAMA, model_type: 'opt', ffn_dim: 12 };
const BERT = { ...LLAMA, model_type: 'bert', pad_token_id: 0 };
const LABELS = { id2label: { 0: 'bad', 1: 'fair', 2: 'good' } };

const names = (model: Model) => [...parameterGraph(model).parameters.keys()];

for (const [name, config] of Object.entries({
  Llama: LLAMA,
  Mistral: { ...LLAMA, model_type: 'mistral', num_key_value_heads: 2 },
  Qwen2: { ...LLAMA, model_type: 'qwen2', num_key_value_heads: 2 },
  GPT2,
  GPTNeoX: NEOX,
  OPT,
})) {
  test(`${name}ForSequenceClassification has a score and no output matrix`, async () => {
    const architectures = [`${name}ForSequenceClassification`];
    const model = modelFromConfig({ ...config, ...LABELS, architectures });
    assert.deepEqual([model.labelCount, model.labelAt, model.objective], [3, 'last', 'cross_entropy']);
    assert.ok(names(model).includes('score.weight'));
    assert.ok(!names(model).some((parameter) => /lm_head|embed_out/.test(parameter)));
    const folder = await mkdtemp(join(tmpdir(), 'heads-'));
    try {
      await saveModel(folder, model, (parameter) => weightsOf(model).get(parameter)!);
      const saved = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
      assert.deepEqual(saved.architectures, architectures);
      await using checkpoint = await Checkpoint.open(folder);
      assert.deepEqual(await checkpoint.read('score.weight'), weightsOf(model).get('score.weight'));
    } finally {
      await rm(folder, { recursive: true });
    }
  });
}

function weightsOf(model: Model): Map<string, Float32Array> {
  const weights = new Map<string, Float32Array>();
  initialise(model, 5, { load: (name, values) => void weights.set(name, values) });
  return weights;
}

test('a task that no head is there for is refused by name', () => {
  assert.throws(
    () => modelFromConfig({ ...GPT2, architectures: ['GPT2ForTokenClassification'] }),
    /architectures: expected GPT2LMHeadModel or GPT2ForSequenceClassification, got "GPT2ForTokenClassification"/,
  );
  assert.throws(
    () => modelFromConfig({ ...BERT, architectures: ['BertForQuestionAnswering'] }),
    /architectures: expected BertForSequenceClassification, BertForMaskedLM or BertModel/,
  );
});

test('one label is regression, and problem_type decides where it is given', () => {
  const objective = (more: object) => modelFromConfig({ ...BERT, ...more }).objective;
  assert.equal(objective({ num_labels: 1 }), 'squared_error');
  assert.equal(objective(LABELS), 'cross_entropy');
  assert.equal(objective({ ...LABELS, problem_type: 'multi_label_classification' }), 'binary_cross_entropy');
  assert.equal(objective({ ...LABELS, problem_type: 'regression' }), 'squared_error');
  assert.throws(() => objective({ problem_type: 'ranking' }), /problem_type: expected single_label_classification/);
});

for (const [problem, expected] of [
  ['regression', (x: number, t: number) => (x - t) ** 2],
  ['multi_label_classification', (x: number, t: number) => Math.log1p(Math.exp(x)) - x * t],
] as const) {
  test(`${problem} is held against numbers and learns them`, async () => {
    const model = modelFromConfig({ ...BERT, ...LABELS, problem_type: problem, initializer_range: 0.3 });
    using opened = openDevice();
    const batch = randomBatch([4, 5], 10, 11, problem);
    const targets = new Float32Array(30).fill(Number.NaN);
    for (const row of [0, 4]) targets.set([1, 0, 1], 3 * row);
    using store = new ParameterStore(opened.device, layoutOf(model));
    initialise(model, 1, store);
    using forward = new Forward({ model, rows: 10, hasLogits: true }, store);
    const { logits, tokenLosses } = await forward.run({ ...batch, targets });
    for (const row of [0, 4]) {
      const mean = [0, 1, 2].reduce((sum, i) => sum + expected(logits![3 * row + i]!, targets[3 * row + i]!), 0) / 3;
      assert.ok(Math.abs(tokenLosses[row]! - mean) < 1e-5);
    }
    assert.equal(tokenLosses[1], 0);

    const job = { model, rows: 10, strategy: ALONE, optimizer: OPTIMIZER };
    await using step = TrainStep.create({ ...job, device: opened.device });
    initialise(model, 1, step.parameters);
    const losses: number[] = [];
    for (let n = 1; n <= 60; n++) {
      losses.push((await step.micro({ ...batch, targets }, { scale: 1 / 2, isFirst: true })).loss);
      await step.update({ lr: 0.02, step: n });
    }
    assert.ok(losses.at(-1)! < 0.1 * losses[0]!, `${losses[0]} to ${losses.at(-1)}`);
  });
}

test('a masked language model is tied to the table of words, with a bias of its own', async () => {
  const model = modelFromConfig({ ...BERT, architectures: ['BertForMaskedLM'] });
  assert.ok(names(model).includes('cls.predictions.transform.LayerNorm.bias'));
  assert.ok(names(model).includes('cls.predictions.bias'));
  assert.ok(!names(model).some((name) => /decoder|pooler|classifier/.test(name)));
  using opened = openDevice();
  const job = { model, rows: 8, strategy: ALONE, optimizer: OPTIMIZER };
  await using step = TrainStep.create({ ...job, device: opened.device });
  initialise(model, 3, step.parameters);
  const labels = Int32Array.from({ length: 8 }, (_, t) => (t % 3 === 1 ? 5 + (t % 4) : -100));
  const batch: TokenBatch = { ...randomBatch([8], 8, 11, 'masked'), labels };
  const losses: number[] = [];
  for (let n = 1; n <= 40; n++) {
    losses.push((await step.micro(batch, { scale: 1 / 3, isFirst: true })).loss);
    await step.update({ lr: 0.02, step: n });
  }
  assert.ok(losses.at(-1)! < 0.2 * losses[0]!);
});

test('a value head gives a number for every token and takes the gradient of a loss by it', async () => {
  const model = withValueHead(modelFromConfig({ ...LLAMA, initializer_range: 0.3 }));
  using opened = openDevice();
  const batch = randomBatch([6, 3], 9, 11, 'values');
  const job = { model, rows: 9, strategy: ALONE, optimizer: { ...OPTIMIZER, maxGradientNorm: 0, weightDecay: 0 } };
  const returns = Float32Array.from(batch.ids, (id) => (id % 3) - 1);
  await using step = TrainStep.create({ ...job, device: opened.device });
  initialise(model, 2, step.parameters);
  using forward = new Forward({ model, rows: 9 }, step.parameters);
  const errors: number[] = [];
  for (let n = 1; n <= 80; n++) {
    const { values } = await forward.run(batch);
    const valueGradients = values!.map((value, i) => (2 * (value - returns[i]!)) / 9);
    errors.push(values!.reduce((sum, value, i) => sum + (value - returns[i]!) ** 2, 0) / 9);
    await step.micro({ ...batch, labels: new Int32Array(9).fill(-100), valueGradients }, { scale: 1, isFirst: true });
    await step.update({ lr: 0.02, step: n });
  }
  assert.ok(errors.at(-1)! < 0.05 * errors[0]!, `${errors[0]} to ${errors.at(-1)}`);
});

test('entropies of the next token come with the losses', async () => {
  const model = modelFromConfig({ ...LLAMA, initializer_range: 0.5 });
  using opened = openDevice();
  using store = new ParameterStore(opened.device, layoutOf(model));
  initialise(model, 2, store);
  using forward = new Forward({ model, rows: 9, hasLogits: true, hasEntropies: true }, store);
  const batch = randomBatch([9], 9, 11, 'entropy');
  const { logits, entropies } = await forward.run(batch);
  for (let row = 0; row < 9; row++) {
    const powers = logits!.subarray(row * 11, (row + 1) * 11).map(Math.exp);
    const total = powers.reduce((sum, value) => sum + value, 0);
    const entropy = powers.reduce((sum, value) => sum - (value / total) * Math.log(value / total), 0);
    assert.ok(Math.abs(entropies![row]! - (batch.labels[row] === -100 ? 0 : entropy)) < 1e-5);
  }
});

test('layers slide where the configuration says so', () => {
  const windows = (more: object) => {
    const config = { ...LLAMA, num_hidden_layers: 4, num_key_value_heads: 2, sliding_window: 5, ...more };
    const { ops } = parameterGraph(modelFromConfig(config));
    return ops.filter(({ kind }) => kind === 'attention').map(({ attributes }) => attributes.window);
  };
  assert.deepEqual(windows({ model_type: 'mistral' }), [5, 5, 5, 5]);
  assert.deepEqual(windows({ model_type: 'qwen2' }), [0, 0, 0, 0]);
  assert.deepEqual(windows({ model_type: 'qwen2', use_sliding_window: true }), [0, 0, 0, 0]);
  assert.deepEqual(windows({ model_type: 'qwen2', use_sliding_window: true, max_window_layers: 2 }), [0, 0, 5, 5]);
  const types = ['sliding_attention', 'full_attention', 'full_attention', 'sliding_attention'];
  assert.deepEqual(windows({ model_type: 'qwen3', use_sliding_window: true, layer_types: types }), [5, 0, 0, 5]);
  assert.throws(
    () => windows({ model_type: 'qwen3', layer_types: ['full_attention'] }),
    /layer_types: expected 4 times/,
  );
});

test('longrope takes its short factors within the original context and its long ones beyond it', () => {
  const scaling = {
    rope_type: 'longrope',
    short_factor: [1, 2],
    long_factor: [4, 8],
    original_max_position_embeddings: 8,
  };
  const fields = { max_position_embeddings: 32, rope_scaling: scaling };
  const plain = ropeOf({ max_position_embeddings: 32 }, 4, 'config.json').frequencies;
  const at = (length: number) => ropeOf(fields, 4, 'config.json', length);
  const divided = (by: readonly number[]) => plain.map((frequency, i) => frequency / by[i]!);
  for (const [length, by] of [
    [8, scaling.short_factor],
    [9, scaling.long_factor],
  ] as const) {
    for (const [i, value] of divided(by).entries()) assert.ok(Math.abs(at(length).frequencies[i]! / value - 1) < 1e-6);
  }
  // sqrt(1 + ln(32 / 8) / ln(8))
  assert.ok(Math.abs(at(9).attentionFactor - Math.sqrt(1 + Math.log(4) / Math.log(8))) < 1e-12);
  const half = modelFromConfig({ ...LLAMA, hidden_size: 16, partial_rotary_factor: 0.5 });
  const rotary = parameterGraph(half).ops.find(({ kind }) => kind === 'rotary')!;
  assert.deepEqual([rotary.attributes.headDim, rotary.attributes.rotaryDim], [8, 4]);
});
