// Hugging Face folders: what disagrees is named from both sides, what was saved opens again.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DataError } from '#src/common/index.js';
import { compileForward, layoutOf, narrow, ParameterStore, parameterGraph, widen } from '#src/engine/index.js';
import {
  Checkpoint,
  countParameters,
  initialise,
  type Model,
  modelFromConfig,
  type RopeFields,
  readModel,
  ropeOf,
  SafetensorsFile,
  saveModel,
  withValueHead,
  writeSafetensors,
} from '#src/models/index.js';
import { openDevice } from '../engine/device-for-tests.js';

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
    const dims = places.find(
      (place) => (place.name.endsWith(name) || name.endsWith(place.name)) && place.length === values.length,
    )?.dims;
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
    await saveModel(path, model, (name) => weights.get(name)!, { dtype });
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

test('weights beyond the size of a shard go to several files with an index, which open again; earlier files go', async () => {
  const model = modelFromConfig(GPT2);
  const weights = randomWeights(model);
  const read = (name: string) => weights.get(name)!;
  const path = await mkdtemp(join(folder, 'shards-'));
  await saveModel(path, model, read);
  await saveModel(path, model, read, { maxShardBytes: 1500 });
  const files = (await readdir(path)).filter((name) => name.startsWith('model')).sort();
  const index = JSON.parse(await readFile(join(path, 'model.safetensors.index.json'), 'utf8'));
  const shards = files.filter((name) => name !== 'model.safetensors.index.json');
  assert.ok(shards.length > 2);
  assert.deepEqual([...new Set(Object.values(index.weight_map))].sort(), shards);
  assert.equal(shards[0], `model-00001-of-0000${shards.length}.safetensors`);
  const bytes = [...weights.values()].reduce((sum, values) => sum + values.byteLength, 0);
  assert.equal(index.metadata.total_size, bytes);
  {
    await using checkpoint = await Checkpoint.open(path);
    for (const [name, values] of weights) assert.deepEqual(await checkpoint.read(name), values);
  }
  await saveModel(path, model, read);
  assert.deepEqual(
    (await readdir(path)).filter((name) => name.startsWith('model')),
    ['model.safetensors'],
  );
  await assert.rejects(saveModel(path, model, read, { maxShardBytes: 0 }), /maxShardBytes: expected a positive/);
});

for (const dtype of ['f32', 'bf16', 'f16'] as const) {
  test(`a ${dtype} checkpoint is read straight into a device as it is read by name`, async () => {
    const model = modelFromConfig({ ...GPT2, n_embd: 64, vocab_size: 6000 }); // tables of more than a piece
    const weights = randomWeights(model);
    const path = await mkdtemp(join(folder, 'straight-'));
    await saveModel(path, model, (name) => weights.get(name)!, { dtype, maxShardBytes: 400_000 });
    await using checkpoint = await Checkpoint.open(path);
    using opened = openDevice();
    using store = new ParameterStore(opened.device, layoutOf(model));
    await checkpoint.loadInto(store);
    for (const name of weights.keys()) assert.deepEqual(store.read(name), await checkpoint.read(name), name);
  });
}

test('a file that is cut off after it was opened is an error that names it, and the process lives', async () => {
  const { path } = await save(GPT2);
  const model = modelFromConfig(GPT2);
  const file = join(path, 'model.safetensors');
  await using checkpoint = await Checkpoint.open(path);
  using opened = openDevice();
  using store = new ParameterStore(opened.device, layoutOf(model));
  await truncate(file, (await stat(file)).size - 100);
  await assert.rejects(checkpoint.loadInto(store), (error: Error) => {
    assert.ok(error instanceof DataError);
    assert.match(error.message, /model\.safetensors.*ends at byte/);
    return true;
  });
});

test('a read that would leave its buffer is refused', async () => {
  const { path } = await save(GPT2);
  using opened = openDevice();
  const { device } = opened;
  const buffer = device.allocate(64);
  await using file = await SafetensorsFile.open(join(path, 'model.safetensors'));
  const read = { fileOffset: 0, count: 16, from: 'f32', buffer, bufferOffset: 0, to: 'f32' } as const;
  const rejects = (change: object, message: RegExp) =>
    assert.rejects(async () => device.readFile(file.fd, [{ ...read, ...change }]), message);
  await device.readFile(file.fd, [read]);
  await rejects({ count: 17 }, /read 0 ends behind its buffer/);
  await rejects({ bufferOffset: 4 }, /read 0 ends behind its buffer/);
  await rejects({ bufferOffset: 65, count: 0 }, /read 0 ends behind its buffer/);
  await rejects({ count: 2 ** 53 }, /reads\[0\]\.count: expected an integer/);
  await rejects({ from: 'i32' }, /reads\[0\]\.from: expected "f32", "bf16" or "f16"/);
  await rejects({ fileOffset: 2 ** 40 }, /the file ends at byte 1099511627776/);
  await assert.rejects(async () => device.readFile(987_654, [read]), /fd is not an open file/);
});

test('wrappers in front of names are looked through, and pickles are refused by name', async () => {
  const { path, weights } = await save(GPT2, (all) => {
    for (const [name, values] of [...all]) {
      all.delete(name);
      all.set(`module.${name}`, values);
    }
  });
  await using checkpoint = await Checkpoint.open(path);
  const name = 'transformer.wte.weight';
  assert.deepEqual(await checkpoint.read(name), weights.get(`module.${name}`));
  await rm(join(path, 'model.safetensors'));
  await writeFile(join(path, 'pytorch_model.bin'), 'PK');
  await assert.rejects(Checkpoint.open(path), /pytorch_model\.bin.*is a pickle.*safe_serialization=True/);
});

test('with fresh heads a checkpoint of another task gives the body, and the new head starts from the seed', async () => {
  const { path, weights } = await save(GPT2);
  const classifier = { architectures: ['GPT2ForSequenceClassification'], num_labels: 3 };
  const as = (model: Model) => modelFromConfig({ ...model.config, ...classifier });
  await assert.rejects(Checkpoint.open(path, { as }), /lacks score\.weight/);
  await using first = await Checkpoint.open(path, { as, freshHeads: 4 });
  await using again = await Checkpoint.open(path, { as, freshHeads: 4 });
  await using other = await Checkpoint.open(path, { as, freshHeads: 5 });
  const name = 'transformer.h.0.mlp.c_fc.weight';
  assert.deepEqual(await first.read(name), weights.get(name));
  assert.deepEqual(await first.read('score.weight'), await again.read('score.weight'));
  assert.notDeepEqual(await first.read('score.weight'), await other.read('score.weight'));
  await using valued = await Checkpoint.open(path, { as: withValueHead, freshHeads: 4 });
  assert.equal((await valued.read('v_head.summary.weight')).length, 8);
});
