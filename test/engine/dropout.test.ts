// Dropout in training: what is dropped depends on seed, step and the row of the step, and on nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Dropout,
  Forward,
  layoutOf,
  lossGraph,
  ParameterStore,
  type TokenBatch,
  TrainStep,
} from '#src/engine/index.js';
import { initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2 } from './models-for-tests.js';

const ROWS = 16;
const BATCHES = ['first', 'second'].map((seed) => randomBatch([9, 7], ROWS, 37, seed));

interface Choice {
  readonly threads?: number;
  readonly seed?: number;
  readonly dropout?: Dropout;
  readonly model?: Model;
}

/** Losses of each token, and the gradient of a matrix, of `batches` as the micro-batches of step 3. */
async function run(batches: readonly TokenBatch[], { threads = 2, model = tinyGpt2(), ...choice }: Choice = {}) {
  using opened = openDevice(threads);
  const rows = batches[0]!.ids.length;
  const settings = { model, rows, strategy: ALONE, optimizer: OPTIMIZER, device: opened.device };
  await using step = TrainStep.create({ ...settings, dropout: 'model', ...choice });
  initialise(model, 7, step.parameters);
  const scale = 1 / batches.reduce((sum, batch) => sum + labelled(batch), 0);
  const losses: number[] = [];
  for (const [index, batch] of batches.entries()) {
    losses.push(...(await step.micro(batch, { scale, isFirst: index === 0, step: 3 })).tokenLosses);
  }
  return { losses, gradient: [...step.readGradient('transformer.h.0.attn.c_attn.weight')] };
}

/** Both batches as one of twice as many rows. */
function joined([a, b]: readonly TokenBatch[]): TokenBatch {
  const join = (field: 'ids' | 'positions' | 'labels' | 'starts' | 'ends', shift = 0) =>
    Int32Array.from([...a![field], ...b![field].map((value) => value + shift)]);
  return {
    ids: join('ids'),
    positions: join('positions'),
    labels: join('labels'),
    starts: join('starts', ROWS),
    ends: join('ends', ROWS),
  };
}

test('equal seeds and steps drop the same, with any number of threads; other seeds and no dropout do not', async () => {
  const { losses, gradient } = await run(BATCHES);
  assert.deepEqual(await run(BATCHES), { losses, gradient });
  assert.deepEqual((await run(BATCHES, { threads: 3 })).losses, losses);
  assert.notDeepEqual((await run(BATCHES, { seed: 43 })).losses, losses);
  assert.notDeepEqual((await run(BATCHES, { dropout: null })).losses, losses);
  assert.notDeepEqual((await run(BATCHES, { dropout: 0.2 })).losses, losses);
  assert.deepEqual(await run(BATCHES, { dropout: 0 }), await run(BATCHES, { dropout: null }));
});

test('one micro-batch or two of half the rows: every row is dropped alike', async () => {
  const split = await run(BATCHES);
  const whole = await run([joined(BATCHES)]);
  assert.deepEqual(whole.losses, split.losses);
  for (const [i, value] of split.gradient.entries()) assert.ok(Math.abs(value - whole.gradient[i]!) < 1e-6);
});

test('evaluation drops nothing', async () => {
  using opened = openDevice();
  const model = tinyGpt2();
  using store = new ParameterStore(opened.device, layoutOf(model));
  initialise(model, 7, store);
  using forward = new Forward({ model, rows: ROWS }, store);
  const { tokenLosses } = await forward.run(BATCHES[0]!);
  assert.deepEqual([...tokenLosses], (await run([BATCHES[0]!], { dropout: null })).losses);
});

test('a share outside of 0 to 1 is refused', () => {
  assert.throws(() => lossGraph(tinyGpt2(), ROWS, {}, 1), /dropout: expected a share from 0 to less than 1, got 1/);
});

/** Where each family drops in a model of one layer: path and share. */
const LLAMA = {
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 16,
  attention_dropout: 0.1,
};
const PLACES: Readonly<Record<string, readonly [config: object, places: readonly string[]]>> = {
  gpt2: [
    { n_layer: 1, n_head: 2, n_embd: 8, n_positions: 16, embd_pdrop: 0.2, resid_pdrop: 0.3, attn_pdrop: 0.15 },
    [
      'transformer.drop 0.2',
      'transformer.h.0.attn attention 0.15',
      'transformer.h.0.attn 0.3',
      'transformer.h.0.mlp 0.3',
    ],
  ],
  opt: [
    {
      hidden_size: 8,
      ffn_dim: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      max_position_embeddings: 16,
      attention_dropout: 0.2,
    },
    ['model.decoder.layers.0.self_attn attention 0.2', 'model.decoder.layers.0 0.1', 'model.decoder.layers.0 0.1'],
  ],
  gpt_neox: [
    {
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      max_position_embeddings: 16,
      hidden_dropout: 0.25,
      attention_dropout: 0.35,
    },
    [
      'gpt_neox.emb_dropout 0.25',
      'gpt_neox.layers.0.attention attention 0.35',
      'gpt_neox.layers.0.attention.dense 0.25',
      'gpt_neox.layers.0.mlp.dense_4h_to_h 0.25',
    ],
  ],
  llama: [LLAMA, ['model.layers.0.self_attn attention 0.1']],
  qwen2: [LLAMA, ['model.layers.0.self_attn attention 0.1']],
  bert: [
    {
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      max_position_embeddings: 16,
      classifier_dropout: 0.4,
    },
    [
      'bert.embeddings 0.1',
      'bert.encoder.layer.0.attention.self attention 0.1',
      'bert.encoder.layer.0.attention.output 0.1',
      'bert.encoder.layer.0.output 0.1',
      'dropout 0.4',
    ],
  ],
};

for (const [family, [config, places]] of Object.entries(PLACES)) {
  test(`${family} drops where and as much as its configuration says`, () => {
    const model = modelFromConfig({ model_type: family, vocab_size: 16, ...config });
    const drops = lossGraph(model, 4, {}, 'model').ops.filter(({ attributes }) => attributes.p !== undefined);
    assert.deepEqual(
      drops.map(({ kind, path, attributes }) => `${path} ${kind === 'attention' ? 'attention ' : ''}${attributes.p}`),
      places,
    );
    assert.equal(new Set(drops.map(({ attributes }) => attributes.stream)).size, drops.length, 'streams of their own');
    assert.ok(lossGraph(model, 4).ops.every(({ attributes }) => attributes.p === undefined));
  });
}
