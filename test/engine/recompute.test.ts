// Activation checkpointing changes memory and nothing else: the same losses, norms and parameters, bit by bit.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compileTraining, type FloatType, type Recompute, TrainStep } from '#src/engine/index.js';
import { initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch } from './models-for-tests.js';

const VOCABULARY = 37;
const ROWS = 24;
const COMMON = { vocab_size: VOCABULARY, hidden_size: 16, num_hidden_layers: 4, num_attention_heads: 2 };
const LLAMA = { ...COMMON, intermediate_size: 24, num_key_value_heads: 1, max_position_embeddings: 64 };

/** Four blocks of every family, with dropout where the family has it. */
const MODELS: Readonly<Record<string, () => Model>> = {
  gpt2: () =>
    modelFromConfig({ model_type: 'gpt2', n_layer: 4, n_head: 2, n_embd: 16, n_positions: 64, vocab_size: VOCABULARY }),
  gpt_neox: () =>
    modelFromConfig({
      model_type: 'gpt_neox',
      ...COMMON,
      intermediate_size: 32,
      max_position_embeddings: 64,
      rotary_pct: 0.5,
      hidden_dropout: 0.1,
    }),
  'gpt_neox, one half after the other': () =>
    modelFromConfig({
      model_type: 'gpt_neox',
      ...COMMON,
      intermediate_size: 32,
      max_position_embeddings: 64,
      use_parallel_residual: false,
    }),
  opt: () => modelFromConfig({ model_type: 'opt', ...COMMON, ffn_dim: 32, max_position_embeddings: 64 }),
  'opt, norms behind': () =>
    modelFromConfig({
      model_type: 'opt',
      ...COMMON,
      ffn_dim: 32,
      max_position_embeddings: 64,
      word_embed_proj_dim: 8,
      do_layer_norm_before: false,
    }),
  llama: () => modelFromConfig({ model_type: 'llama', ...LLAMA }),
  mistral: () => modelFromConfig({ model_type: 'mistral', ...LLAMA, sliding_window: 4 }),
  qwen2: () => modelFromConfig({ model_type: 'qwen2', ...LLAMA }),
  qwen3: () => modelFromConfig({ model_type: 'qwen3', ...LLAMA, head_dim: 8 }),
  bert: () =>
    modelFromConfig({
      model_type: 'bert',
      ...COMMON,
      intermediate_size: 32,
      max_position_embeddings: 64,
      num_labels: VOCABULARY,
    }),
};

const peakOf = (model: Model, recompute: Recompute, rows = ROWS) =>
  compileTraining({ model, rows, strategy: ALONE, optimizer: OPTIMIZER, dropout: 'model', recompute }).micro.arena
    .peakBytes;

/** Losses and norms of two steps of two micro-batches, and a parameter afterwards. */
async function train(model: Model, recompute: Recompute, lengths: readonly number[], dtype: FloatType = 'f32') {
  using opened = openDevice();
  const settings = { model, rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype } as const;
  await using step = TrainStep.create({ ...settings, device: opened.device, dropout: 'model', recompute });
  initialise(model, 3, step.parameters);
  const batches = [0, 1].map((index) => randomBatch(lengths, ROWS, VOCABULARY, `${lengths} ${index}`));
  const scale = 1 / batches.reduce((sum, batch) => sum + labelled(batch), 0);
  const seen: number[] = [];
  for (let n = 1; n <= 2; n++) {
    for (const [index, batch] of batches.entries()) {
      const { loss, tokenLosses } = await step.micro(batch, { scale, isFirst: index === 0 });
      seen.push(loss, ...tokenLosses);
    }
    seen.push((await step.update({ lr: 1e-2, step: n })).gradientNorm);
  }
  for (const { name } of step.parameters.parameters) seen.push(...step.readParameter(name));
  return seen;
}

for (const [name, make] of Object.entries(MODELS)) {
  test(`${name}: whatever is made again, and whatever is packed, training is the same bit by bit`, async () => {
    const [least, most] = [peakOf(make(), { every: 2 }), peakOf(make(), 'none')];
    const choice: fc.Arbitrary<Recompute> = fc.oneof(
      fc.constantFrom('full' as const, 'cheap' as const),
      fc.record({ every: fc.integer({ min: 1, max: 6 }) }),
      fc.record({ budgetBytes: fc.integer({ min: Math.max(least, peakOf(make(), 'full')), max: most }) }),
    );
    const lengths = fc.array(fc.integer({ min: 2, max: 11 }), { minLength: 1, maxLength: 2 });
    await fc.assert(
      fc.asyncProperty(choice, lengths, async (recompute, cut) => {
        assert.deepEqual(await train(make(), recompute, cut), await train(make(), 'none', cut));
      }),
      { numRuns: 8 },
    );
  });

  test(`${name}: a budget is met wherever full recomputation meets it`, () => {
    const [most, least] = [peakOf(make(), 'none'), peakOf(make(), 'full')];
    assert.ok(least < most, `${least} < ${most}`);
    for (let share = 0; share <= 1; share += 0.25) {
      const budgetBytes = Math.round(least + share * (most - least));
      assert.ok(peakOf(make(), { budgetBytes }) <= budgetBytes);
    }
  });
}

test('the arena is close to what lives at once, whatever is made again', () => {
  for (const [name, make] of Object.entries(MODELS)) {
    if (!['gpt2', 'llama', 'bert'].includes(name)) continue;
    const [most, least] = [peakOf(make(), 'none', 64), peakOf(make(), 'full', 64)];
    for (const recompute of ['none', 'full', { every: 2 }, { budgetBytes: Math.round((most + least) / 2) }] as const) {
      const settings = {
        model: make(),
        rows: 64,
        strategy: ALONE,
        optimizer: OPTIMIZER,
        dropout: 'model',
        recompute,
      } as const;
      const { peakBytes, lowerBoundBytes } = compileTraining(settings).micro.arena;
      assert.ok(
        peakBytes <= 1.02 * lowerBoundBytes,
        `${name}, ${JSON.stringify(recompute)}: ${peakBytes} of ${lowerBoundBytes}`,
      );
    }
  }
});

test('cheap recomputation keeps products and attention, and makes norms and activations again', () => {
  const width = { hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2, num_attention_heads: 4 };
  const configs = [
    { model_type: 'gpt2', n_layer: 2, n_head: 4, n_embd: 256, n_positions: 64, vocab_size: 64 },
    { model_type: 'llama', ...width, max_position_embeddings: 64, vocab_size: 64 },
    { model_type: 'bert', ...width, max_position_embeddings: 64, vocab_size: 64 },
  ];
  for (const config of configs) {
    const model = modelFromConfig(config);
    const micro = (recompute: Recompute) =>
      compileTraining({ model, rows: 64, strategy: ALONE, optimizer: OPTIMIZER, recompute }).micro;
    const [cheap, kept] = [micro('cheap'), micro('none')];
    const dear = ({ graph }: typeof cheap) => graph.ops.filter(({ kind }) => /^(linear|attention)/.test(kind)).length;
    assert.equal(dear(cheap), dear(kept), config.model_type);
    assert.ok(cheap.graph.ops.length > kept.graph.ops.length, config.model_type);
    assert.ok(cheap.arena.peakBytes < 0.9 * kept.arena.peakBytes, config.model_type);
  }
});

test('a budget that nothing fits is refused with the least that does', () => {
  assert.throws(
    () => peakOf(MODELS.gpt2!(), { budgetBytes: 1000 }),
    /recompute.budgetBytes: expected at least \d+ bytes \(.* kB\), what a micro-batch needs that .*, got 1000. Give more, or make the micro-batch smaller/,
  );
});

const DROPPING = { resid_pdrop: 0.1, embd_pdrop: 0.1, attn_pdrop: 0.2 };
for (const dtype of ['bf16', 'f16'] as const) {
  test(`${dtype}: dropout of attention and recomputation give the same bits`, async () => {
    const model = () =>
      modelFromConfig({
        model_type: 'gpt2',
        n_layer: 4,
        n_head: 2,
        n_embd: 16,
        n_positions: 64,
        vocab_size: VOCABULARY,
        ...DROPPING,
      });
    const kept = await train(model(), 'none', [11, 9], dtype);
    assert.ok(kept.every(Number.isFinite));
    const peaks = ['none', 'full'] as const;
    const [most, least] = peaks.map((recompute) => peakOf(model(), recompute));
    for (const recompute of ['full', 'cheap', { every: 2 }, { budgetBytes: Math.round((most! + least!) / 2) }] as const)
      assert.deepEqual(await train(model(), recompute, [11, 9], dtype), kept);
  });
}
