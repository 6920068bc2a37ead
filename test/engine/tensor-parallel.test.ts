// Tensor parallelism: every family over 2 and 4 ranks, alone and beside ZeRO, trains as one rank does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileTraining,
  meshOf,
  type OptimizerSettings,
  PARAMETERS_ON_HOST,
  type ZeroStage,
} from '#src/engine/index.js';
import { adapterFromConfig, type Model, modelFromConfig, withAdapter, withNf4 } from '#src/models/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { DROPPING, FAMILIES, LLAMA } from './families-for-tests.js';
import { assertSame, runMesh, SMOOTH } from './meshes-for-tests.js';

for (const [family, model] of Object.entries(FAMILIES)) {
  test(`${family}: 2 and 4 tensor ranks train as one`, async () => {
    const alone = await runMesh({ model });
    for (const tensor of [2, 4]) assertSame(await runMesh({ model, mesh: { tensor } }), alone);
  });
}

test('the loss is that of the whole vocabulary, with smoothing, a z-loss and rows without labels', async () => {
  const loss = { labelSmoothing: 0.1, zLoss: 1e-3 };
  const model = FAMILIES.gpt2!;
  const alone = await runMesh({ model, loss });
  const found = await runMesh({ model, loss, mesh: { tensor: 4 } });
  assertSame(found, alone);
  for (const [index, losses] of found.tokenLosses.entries())
    for (const [row, value] of losses.entries())
      assert.ok(Math.abs(value - alone.tokenLosses[index]![row]!) < 1e-5 * (1 + value));
});

test('beside data parallelism at every ZeRO stage, with several micro-batches', async () => {
  for (const family of ['gpt2', 'qwen3', 'llama with 1 key-value head and biases']) {
    const model = FAMILIES[family]!;
    const alone = await runMesh({ model, micros: 4 });
    for (const zeroStage of [0, 1, 2, 3] as const satisfies readonly ZeroStage[])
      assertSame(await runMesh({ model, micros: 4, zeroStage, mesh: { tensor: 2, data: 2 } }), alone);
    assertSame(await runMesh({ model, micros: 4, zeroStage: 3, mesh: { tensor: 4, data: 2 } }), alone);
  }
});

test('beside a pipeline', async () => {
  for (const family of ['tied llama', 'gpt2']) {
    const model = FAMILIES[family]!;
    const alone = await runMesh({ model, micros: 4 });
    assertSame(await runMesh({ model, micros: 4, zeroStage: 1, mesh: { tensor: 2, pipeline: 2, data: 2 } }), alone);
  }
});

test('what is dropped is what one rank drops: whole rows alike on all ranks, heads and columns each on their own', async () => {
  const adapter = adapterFromConfig({
    r: 2,
    lora_alpha: 6,
    lora_dropout: 0.3,
    target_modules: ['o_proj', 'down_proj'],
  });
  const models: Readonly<Record<string, () => Model>> = {
    ...DROPPING,
    adapted: () => withAdapter(FAMILIES['llama with 2 key-value heads']!(), adapter),
  };
  for (const [name, model] of Object.entries(models)) {
    const job = { model, dropout: 'model', steps: 2 } as const;
    const alone = await runMesh(job);
    const without = await runMesh({ ...job, dropout: null });
    assert.notDeepEqual(alone.losses, without.losses, name);
    for (const tensor of [2, 4]) assertSame(await runMesh({ ...job, mesh: { tensor } }), alone);
  }
});

test('adapters on layers that are cut, by outputs and by inputs', async () => {
  for (const targets of [
    ['q_proj', 'v_proj'],
    ['o_proj', 'down_proj'],
    ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  ]) {
    const adapter = adapterFromConfig({ r: 2, lora_alpha: 6, target_modules: targets });
    const model = () => withAdapter(FAMILIES['llama with 2 key-value heads']!(), adapter);
    const alone = await runMesh({ model });
    assertSame(await runMesh({ model, mesh: { tensor: 2 } }), alone);
    assertSame(await runMesh({ model, mesh: { tensor: 4, data: 2 }, zeroStage: 2 }), await runMesh({ model }));
  }
});

test('a frozen base in 4 bits, each rank with its part: the same numbers where blocks of 64 divide what a rank has of a row', async () => {
  const sizes = { hidden_size: 128, intermediate_size: 256, num_hidden_layers: 2 };
  const adapter = adapterFromConfig({ r: 2, lora_alpha: 6, target_modules: 'all-linear' });
  const packed =
    (family: object, isDouble = false) =>
    () =>
      withNf4(withAdapter(modelFromConfig({ ...LLAMA, ...sizes, ...family }), adapter), { isDouble });
  const biased = { model_type: 'llama', attention_bias: true, mlp_bias: true };
  for (const family of [{ model_type: 'llama' }, biased]) {
    const model = packed(family);
    const alone = await runMesh({ model });
    for (const zeroStage of [0, 3] as const)
      assertSame(await runMesh({ model, zeroStage, mesh: { tensor: 2, data: 2 }, micros: 2 }), alone);
    assertSame(await runMesh({ model, mesh: { tensor: 2 }, sequenceParallelNorms: true }), alone);
  }
  // Scales in 8 bits are rounded with others, and blocks of 64 that ranks share are cut: close, not equal.
  const double = packed({ model_type: 'llama' }, true);
  const [near, whole] = [await runMesh({ model: double, mesh: { tensor: 4 } }), await runMesh({ model: double })];
  for (const [step, loss] of near.losses.entries())
    assert.ok(Math.abs(loss - whole.losses[step]!) < 1e-2 * loss && loss !== whole.losses[step], `${step}: ${loss}`);
  const bytes = (tensor: number) => {
    const strategy = { zeroStage: 0, mesh: meshOf({ tensor }), rank: 0 } as const;
    return compileTraining({ model: double(), rows: 16, strategy, optimizer: SMOOTH }).memory.parameterBytes;
  };
  assert.ok(bytes(4) < 0.5 * bytes(1));
});

const MUON: OptimizerSettings = {
  kind: 'muon',
  momentum: 0.9,
  isNesterov: true,
  iterations: 5,
  weightDecay: 0.1,
  maxGradientNorm: 1,
  adam: { beta1: 0.9, beta2: 0.95, eps: 1e-2, rateRatio: 0.1 },
};

test('Muon steps matrices that ranks have parts of as it steps whole ones', async () => {
  for (const family of ['gpt2', 'llama with 2 key-value heads', 'gpt_neox in series']) {
    const job = { model: FAMILIES[family]!, optimizer: MUON, micros: 2 };
    const alone = await runMesh(job);
    for (const tensor of [2, 4]) assertSame(await runMesh({ ...job, mesh: { tensor } }), alone, 1e-4);
    for (const zeroStage of [1, 2, 3] as const)
      assertSame(await runMesh({ ...job, zeroStage, mesh: { tensor: 2, data: 2 } }), alone, 1e-4);
    assertSame(await runMesh({ ...job, mesh: { tensor: 2 }, sequenceParallelNorms: true }), alone, 1e-4);
  }
  const half = { model: FAMILIES.gpt2!, optimizer: MUON, dtype: 'bf16' } as const;
  assertSame(await runMesh({ ...half, zeroStage: 1, mesh: { tensor: 2 } }), await runMesh(half), 3e-2);
});

test('Muon steps them with its state on the host or in files as in memory, bit by bit', async () => {
  using folder = temporaryFolder();
  const requests = { blockBytes: 4096, queueDepth: 3, threads: 1, singleSubmit: false, overlapEvents: true };
  const file = { folder: folder.path, ...requests };
  const model = FAMILIES['llama with 2 key-value heads']!;
  for (const [dtype, mesh, zeroStage] of [
    ['f32', { tensor: 2 }, 1],
    ['bf16', { tensor: 2, data: 2 }, 2],
    ['f32', { tensor: 2, data: 2 }, 3],
    ['f32', { tensor: 4 }, 1], // neighbours have the same keys and values
  ] as const) {
    const job = { model, optimizer: MUON, micros: 2, dtype, mesh, zeroStage };
    const kept = await runMesh(job);
    const { losses, norms, parameters } = kept;
    for (const device of ['cpu', 'nvme'] as const)
      for (const [slots, ratio] of [
        [3, 1],
        [1, 0.5],
      ] as const) {
        const offload = { optimizer: { device, file, tileElements: 100, slots, ratio } };
        const found = await runMesh({ ...job, offload });
        assert.deepEqual([found.losses, found.norms], [losses, norms], `${device}, ${JSON.stringify(mesh)}`);
        assert.deepEqual(found.parameters, parameters, `${device}, ${JSON.stringify(mesh)}`);
      }
  }
  // With the slices of the parameters off the device too.
  const job = { model, optimizer: MUON, mesh: { tensor: 2, data: 2 }, zeroStage: 3 } as const;
  const kept = await runMesh(job);
  for (const offloadParam of [PARAMETERS_ON_HOST, { hostElementsMax: 0, buffers: 3, bufferElements: 1, file }])
    for (const optimizer of [null, { device: 'nvme', file, tileElements: 100 } as const]) {
      const found = await runMesh({ ...job, tuning: { offloadParam }, offload: { optimizer } });
      assert.deepEqual([found.losses, found.norms], [kept.losses, kept.norms]);
      assert.deepEqual(found.parameters, kept.parameters);
    }
});

test('whatever the backward makes again', async () => {
  const model = FAMILIES.gpt2!;
  const alone = await runMesh({ model });
  assertSame(await runMesh({ model, mesh: { tensor: 2 }, recompute: 'full' }), alone);
  const plain = compile(2);
  const budgetBytes = Math.floor(plain.micro.arena.peakBytes * 0.8);
  assertSame(await runMesh({ model, mesh: { tensor: 2 }, recompute: { budgetBytes } }), alone);
});

const compile = (tensor: number, rank = 0, family = 'gpt2') => {
  const strategy = { zeroStage: 0, mesh: meshOf({ tensor }), rank } as const;
  return compileTraining({ model: FAMILIES[family]!(), rows: 16, strategy, optimizer: SMOOTH });
};

test('ranks hold their parts alone', () => {
  const whole = compile(1).layout;
  const { layout } = compile(4);
  const large = ({ name }: { readonly name: string }) => /c_attn|c_fc|c_proj\.weight|wte/.test(name);
  for (const [index, bucket] of layout.buckets.entries()) {
    for (const place of bucket.parameters) {
      const { length } = whole.buckets[index]!.parameters.find(({ name }) => name === place.name)!;
      const padded = place.name.includes('wte') ? 16 * 40 : length;
      assert.equal(place.length, large(place) ? padded / 4 : length, place.name);
    }
  }
});

test('with fewer key-value heads than ranks all of attention is cut too, norms of heads or not', () => {
  for (const family of ['qwen3', 'llama with 1 key-value head and biases']) {
    const lengths = (tensor: number) =>
      new Map(
        compile(tensor, 0, family).layout.buckets.flatMap(({ parameters }) =>
          parameters.map((p) => [p.name, p.length]),
        ),
      );
    const [whole, own] = [lengths(1), lengths(4)];
    const kvParts = family === 'qwen3' ? 2 : 1;
    for (const [name, length] of whole) {
      const parts = /[qo]_proj\.weight/.test(name) ? 4 : /[kv]_proj\.weight/.test(name) ? kvParts : null;
      if (parts !== null) assert.equal(own.get(name), length / parts, name);
    }
  }
});

test('two sums forward and two backward for each block, of whole rows', async () => {
  const { micro } = compile(2, 0, 'llama with 2 key-value heads');
  const rows = 4 * 16 * 16;
  const sums = micro.graph.ops.filter(({ kind }) => kind === 'all_reduce');
  const wide = sums.filter(({ outputs }) => micro.graph.tensors[outputs[0]!]!.dims.join() === '16,16');
  // Two blocks; and the lookup, whose sum is forward alone, and the head, whose sum is backward alone.
  assert.equal(wide.length, 2 * 4 + 2);
  const stats = 4 * 2 * 5 * 16;
  assert.equal(sums.length, wide.length + 1);
  for (const tensor of [2, 4]) {
    const { bytes } = await runMesh({
      model: FAMILIES['llama with 2 key-value heads']!,
      micros: 1,
      steps: 2, // the first also compares the jobs
      mesh: { tensor },
    });
    const payload = wide.length * rows + (stats * tensor) / 2;
    // Small messages are read whole by every peer: each rank sends its own once.
    for (const { micro } of bytes) assert.equal(micro.tensor, payload);
  }
});

test('what does not cut is refused with what would', () => {
  assert.throws(
    () => compile(8, 0, 'llama with 2 key-value heads'),
    /tensorParallel: expected a number that the 4 heads and 2 key-value heads of model.layers.1.self_attn cut into, got 8.*fits is 4/,
  );
  assert.throws(
    () => compile(3),
    /tensorParallel: expected a divisor of the 64 columns of transformer.h.1.mlp.c_fc.weight, got 3.*nearest that fits is 2/,
  );
  const odd = () => modelFromConfig({ ...LLAMA, model_type: 'llama', intermediate_size: 22 });
  const strategy = { zeroStage: 0, mesh: meshOf({ tensor: 4 }), rank: 0 } as const;
  assert.throws(
    () => compileTraining({ model: odd(), rows: 16, strategy, optimizer: SMOOTH }),
    /tensorParallel: expected a divisor of the 22 columns.*nearest that fits is 2/,
  );
});
