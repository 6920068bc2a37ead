// Hugging Face folders: what disagrees is named from both sides, what was saved opens again.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { compileForward, layoutOf, narrow, parameterGraph, widen } from '#src/engine/index.js';
import {
  Checkpoint,
  countParameters,
  initialise,
  type Model,
  modelFromConfig,
  type RopeFields,
  readModel,
  ropeOf,
  saveModel,
  writeSafetensors,
} from '#src/models/index.js';

const GPT2 = { model_type: 'gpt2', n_layer: 1, n_head: 2, n_embd: 8, n_positions: 16, vocab_size: 11, eos_token_id: 3 };
const LLAMA = {
  model_type: 'llama',
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  vocab_size: 11,
};

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'checkpoint-'));
});
after(() => rm(folder, { recursive: true, force: true }));

function randomWeights(model: Model): Map<string, Float32Array> {
  const weights = new Map<string, Float32Array>();
  initialise(model, 5, { load: (name, values) => void weights.set(name, values) });
  return weights;
}

/** Saves a model with random weights; `edit` changes what the file holds afterwards. */
async function save(config: Readonly<Record<string, unknown>>, edit?: (weights: Map<string, Float32Array>) => void) {
  const model = modelFromConfig(config);
  const weights = randomWeights(model);
  const path = await mkdtemp(join(folder, 'model-'));
  await saveModel(path, model, (name) => weights.get(name)!);
  if (!edit) return { path, weights };
  const places = layoutOf(model).buckets.flatMap((bucket) => bucket.parameters);
  edit(weights);
  const tensors = [...weights].map(([name, values]) => {
    const dims = places.find((place) => place.name.endsWith(name) && place.length === values.length)?.dims;
    return { name, shape: dims ?? [values.length], read: () => values };
  });
  await writeSafetensors(join(path, 'model.safetensors'), tensors);
  return { path, weights };
}

const NEOX = { ...LLAMA, model_type: 'gpt_neox', rotary_pct: 0.5 };
const OPT = { ...LLAMA, model_type: 'opt', ffn_dim: 12, word_embed_proj_dim: 4, do_layer_norm_before: false };

const BERT = { ...LLAMA, model_type: 'bert', id2label: { 0: 'bad', 1: 'fair', 2: 'good' } };

for (const [name, config] of Object.entries({
  GPT2,
  LLAMA,
  'tied LLAMA': { ...LLAMA, tie_word_embeddings: true },
  QWEN3: { ...LLAMA, model_type: 'qwen3', num_key_value_heads: 1, head_dim: 12 },
  NEOX,
  OPT,
  BERT,
})) {
  test(`a saved ${name} opens again with the same weights and configuration`, async () => {
    const { path, weights } = await save(config);
    await using checkpoint = await Checkpoint.open(path);
    for (const [name, values] of weights) assert.deepEqual(await checkpoint.read(name), values);
    const saved = JSON.parse(await readFile(join(path, 'config.json'), 'utf8'));
    for (const [key, value] of Object.entries(config)) assert.deepEqual(saved[key], value);
    assert.ok(/LMHeadModel|ForCausalLM|ForSequenceClassification$/.test(saved.architectures[0]));
    assert.equal(
      countParameters(checkpoint.model),
      [...weights.values()].reduce((sum, v) => sum + v.length, 0),
    );
  });
}

test('norms that an old BERT file calls gamma and beta are found', async () => {
  const gain = 'bert.embeddings.LayerNorm.weight';
  const bias = 'bert.embeddings.LayerNorm.bias';
  const { path } = await save(BERT, (all) => {
    all.delete(gain);
    all.delete(bias);
    all.set('bert.embeddings.LayerNorm.gamma', new Float32Array(8).fill(3));
    all.set('bert.embeddings.LayerNorm.beta', new Float32Array(8).fill(2));
  });
  await using checkpoint = await Checkpoint.open(path);
  assert.deepEqual(await checkpoint.read(gain), new Float32Array(8).fill(3));
  assert.deepEqual(await checkpoint.read(bias), new Float32Array(8).fill(2));
});

test('weights saved in 16 bits open again rounded to them', async () => {
  const model = modelFromConfig(GPT2);
  const weights = randomWeights(model);
  for (const dtype of ['bf16', 'f16'] as const) {
    const path = await mkdtemp(join(folder, 'narrow-'));
    await saveModel(path, model, (name) => weights.get(name)!, dtype);
    await using checkpoint = await Checkpoint.open(path);
    for (const [name, values] of weights) {
      const rounded = widen(new Uint8Array(narrow(values, dtype).buffer), dtype);
      assert.deepEqual(await checkpoint.read(name), rounded);
      for (const [i, value] of rounded.entries())
        assert.ok(Math.abs(value - values[i]!) <= 2 ** -8 * Math.abs(values[i]!));
    }
  }
});

test('names without the prefix, masks of old files and a second copy of a tied head are accepted', async () => {
  const { path, weights } = await save(GPT2, (all) => {
    for (const [name, values] of [...all]) {
      all.delete(name);
      all.set(name.replace('transformer.', ''), values);
    }
    all.set('h.0.attn.bias', new Float32Array(4));
    all.set('h.0.attn.masked_bias', new Float32Array(1));
    all.set('lm_head.weight', all.get('wte.weight')!);
  });
  await using checkpoint = await Checkpoint.open(path);
  assert.deepEqual(await checkpoint.read('transformer.wte.weight'), weights.get('wte.weight'));
});

test('a missing, an unexpected and a misshapen tensor are named', async () => {
  const missing = await save(GPT2, (all) => all.delete('transformer.ln_f.bias'));
  await assert.rejects(Checkpoint.open(missing.path), /lacks transformer\.ln_f\.bias of the configuration/);
  const unexpected = await save(LLAMA, (all) => all.set('model.layers.1.mlp.up_proj.weight', new Float32Array(96)));
  await assert.rejects(
    Checkpoint.open(unexpected.path),
    /holds model\.layers\.1\.mlp\.up_proj\.weight that the configuration/,
  );
  const misshapen = await save(GPT2);
  await writeFile(join(misshapen.path, 'config.json'), JSON.stringify({ ...GPT2, vocab_size: 12 }));
  await assert.rejects(
    Checkpoint.open(misshapen.path),
    /transformer\.wte\.weight: expected "?\[12, 8\] by the configuration"?, got \[11,8\]/,
  );
});

test('an untied model without its output matrix is told about tie_word_embeddings', async () => {
  const { path } = await save(LLAMA, (all) => all.delete('lm_head.weight'));
  await assert.rejects(Checkpoint.open(path), /lm_head\.weight.*set tie_word_embeddings to true/);
});

test('a folder without weights, without config, and an index that points outside are refused', async () => {
  const { path } = await save(LLAMA);
  await rm(join(path, 'model.safetensors'));
  await assert.rejects(Checkpoint.open(path), /holds neither model\.safetensors nor/);
  const index = { weight_map: { 'model.norm.weight': '../../etc/passwd.safetensors' } };
  await writeFile(join(path, 'model.safetensors.index.json'), JSON.stringify(index));
  await assert.rejects(Checkpoint.open(path), /names the shard "\.\.\/\.\.\/etc\/passwd\.safetensors"/);
  await assert.rejects(Checkpoint.open(join(path, 'nowhere')), /config\.json: cannot be read/);
  await writeFile(join(path, 'config.json'), '{');
  await assert.rejects(Checkpoint.open(path), /config\.json: is not JSON/);
});

test('a configuration that cannot be built is refused by key', () => {
  assert.throws(
    () => modelFromConfig({ model_type: 'mamba' }),
    /config\.json\.model_type: expected one of bert, gpt2, gpt_neox, llama/,
  );
  assert.throws(() => modelFromConfig({ ...GPT2, n_head: 3 }), /n_embd: expected a multiple of n_head \(3\), got 8/);
  assert.throws(() => modelFromConfig({ ...GPT2, n_layer: '2' }), /config\.json\.n_layer/);
  assert.throws(() => modelFromConfig({ ...GPT2, activation_function: 'mish' }), /activation_function/);
  const longrope = { rope_type: 'longrope', factor: 4 };
  assert.throws(
    () => modelFromConfig({ ...LLAMA, rope_scaling: longrope }),
    /rope_scaling\.short_factor: expected 2 numbers, one for each frequency/,
  );
  assert.throws(
    () => modelFromConfig({ ...LLAMA, rope_parameters: { rope_type: 'linear' } }),
    /rope_parameters\.factor/,
  );
  assert.throws(() => modelFromConfig([]), /expected an object/);
});

test('Qwen3 norms every head of q and k, and its heads may be wider than the model', () => {
  const model = modelFromConfig({ ...LLAMA, model_type: 'qwen3', num_key_value_heads: 1, head_dim: 12 });
  const dims = (name: string) => parameterGraph(model).parameters.get(`model.layers.0.self_attn.${name}`)?.dims;
  assert.deepEqual(dims('q_norm.weight'), [12]);
  assert.deepEqual(dims('k_norm.weight'), [12]);
  assert.deepEqual(dims('q_proj.weight'), [LLAMA.num_attention_heads * 12, LLAMA.hidden_size]);
  assert.equal(dims('q_proj.bias'), undefined);
});

test('rope_parameters means what rope_theta and rope_scaling mean', () => {
  const scaling = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };
  const rope = (fields: Partial<RopeFields>, width: number) =>
    ropeOf({ max_position_embeddings: 64, ...fields }, width, 'config.json');
  const old = rope({ rope_theta: 500_000, rope_scaling: scaling }, 16);
  assert.deepEqual(rope({ rope_parameters: { ...scaling, rope_theta: 500_000 } }, 16), old);
  const linear = rope({ rope_scaling: { type: 'linear', factor: 2 } }, 4);
  assert.deepEqual(linear, { frequencies: Float32Array.of(0.5, Math.fround(0.01) / 2), attentionFactor: 1 });
});

const golden = '../shared/golden';
test('both spellings of the reference configurations build the same program', {
  skip: !existsSync(golden) && `${golden} is absent`,
}, async () => {
  for (const name of ['gpt_neox', 'gpt_neox_serial', 'llama', 'llama_tied', 'llama3_rope', 'mistral', 'qwen2']) {
    const hash = async (file: string) => {
      const model = await readModel(join(golden, name), file);
      return compileForward({ model, rows: 8 }, layoutOf(model)).hash;
    };
    assert.equal(await hash('config.v5.json'), await hash('config.json'), name);
  }
});

test('a shard that is missing is named', { skip: !existsSync(golden) && `${golden} is absent` }, async () => {
  const path = await mkdtemp(join(folder, 'shards-'));
  await cp(join(golden, 'llama_sharded'), path, { recursive: true });
  await rm(join(path, 'model-00003-of-00005.safetensors'), { force: true });
  await assert.rejects(Checkpoint.open(path), /model-00003-of-00005\.safetensors: cannot be opened/);
});

test('first values depend on the seed and the name alone', () => {
  const model = modelFromConfig({ ...GPT2, n_layer: 2 });
  const [one, same] = [randomWeights(model), randomWeights(model)];
  assert.deepEqual(one, same);
  const shallow = randomWeights(modelFromConfig(GPT2));
  assert.deepEqual(one.get('transformer.wte.weight'), shallow.get('transformer.wte.weight'));
  const spread = (values: Float32Array) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
  assert.ok(Math.abs(spread(one.get('transformer.h.0.mlp.c_fc.weight')!) / 0.02 - 1) < 0.2);
  assert.ok(Math.abs(spread(one.get('transformer.h.0.mlp.c_proj.weight')!) / 0.01 - 1) < 0.2);
  assert.ok(one.get('transformer.ln_f.weight')!.every((value) => value === 1));
  assert.ok(one.get('transformer.ln_f.bias')!.every((value) => value === 0));
});
