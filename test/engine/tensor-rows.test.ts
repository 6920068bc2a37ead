// Rows split between the matrices of a tensor group: every family trains as one rank does, alone and beside all else, with the bytes of
// tensor parallelism and less memory.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTraining, meshOf, type Recompute } from '#src/engine/index.js';
import { adapterFromConfig, type Model, modelFromConfig, withAdapter } from '#src/models/index.js';
import { DROPPING, FAMILIES, LLAMA } from './families-for-tests.js';
import { assertSame, type MeshJob, runMesh, SMOOTH } from './meshes-for-tests.js';

const split = (job: MeshJob) => runMesh({ ...job, sequenceParallelNorms: true });

for (const [family, model] of Object.entries(FAMILIES)) {
  test(`${family}: 2 and 4 tensor ranks with rows of their own train as one`, async () => {
    const alone = await runMesh({ model });
    for (const tensor of [2, 4]) assertSame(await split({ model, mesh: { tensor } }), alone);
  });
}

test('beside data and sequence parallelism at every ZeRO stage, and a pipeline', async () => {
  const model = FAMILIES['llama with 2 key-value heads']!;
  const alone = await runMesh({ model, micros: 4 });
  for (const zeroStage of [0, 1, 2, 3] as const)
    assertSame(await split({ model, micros: 4, zeroStage, mesh: { tensor: 2, data: 2 } }), alone);
  assertSame(await split({ model, micros: 4, zeroStage: 1, mesh: { tensor: 2, sequence: 2, data: 2 } }), alone);
  assertSame(await split({ model, micros: 4, mesh: { tensor: 2, pipeline: 2 } }), alone);
});

test('what is dropped, what adapters add and what the backward makes again are those of one rank', async () => {
  const adapter = adapterFromConfig({
    r: 2,
    lora_alpha: 6,
    lora_dropout: 0.3,
    target_modules: ['q_proj', 'o_proj', 'down_proj'],
  });
  const models: Readonly<Record<string, () => Model>> = {
    ...DROPPING,
    adapted: () => withAdapter(FAMILIES['llama with 2 key-value heads']!(), adapter),
  };
  for (const model of Object.values(models)) {
    const job = { model, dropout: 'model', steps: 2 } as const;
    const alone = await runMesh(job);
    for (const mesh of [{ tensor: 2 }, { tensor: 2, sequence: 2 }]) assertSame(await split({ ...job, mesh }), alone);
  }
  const model = FAMILIES.gpt2!;
  const alone = await runMesh({ model });
  for (const recompute of ['cheap', 'full', { every: 2 }] as const satisfies readonly Recompute[])
    assertSame(await split({ model, mesh: { tensor: 2 }, recompute }), alone);
});

const compile = (tensor: number, sequenceParallelNorms: boolean, recompute: Recompute = 'none', rows = 256) =>
  compileTraining({
    model: modelFromConfig({
      ...LLAMA,
      model_type: 'llama',
      hidden_size: 64,
      intermediate_size: 96,
      num_hidden_layers: 8,
    }),
    rows,
    strategy: { zeroStage: 0, mesh: meshOf({ tensor }), rank: 0 },
    optimizer: SMOOTH,
    recompute,
    sequenceParallelNorms,
  });

test('a sum becomes a reduction and a gather of the same bytes; activations take less', async () => {
  const kinds = (isSplit: boolean) => {
    const { ops, tensors } = compile(2, isSplit).micro.graph;
    const wide = ops.filter(({ inputs }) => tensors[inputs[0] ?? -1]?.dims.at(-1) === 64);
    const count = (kind: string) => wide.filter((op) => op.kind === kind).length;
    return { sums: count('all_reduce'), scatters: count('reduce_scatter'), gathers: count('all_gather') };
  };
  // Eight blocks of four sums, the lookup's forward and the head's backward.
  assert.deepEqual(kinds(false), { sums: 34, scatters: 0, gathers: 0 });
  assert.deepEqual(kinds(true), { sums: 0, scatters: 34, gathers: 34 });
  for (const recompute of ['none', 'cheap', 'full'] as const) {
    const [plain, own] = [compile(4, false, recompute), compile(4, true, recompute)];
    assert.ok(own.memory.activationBytes < 0.9 * plain.memory.activationBytes, recompute);
  }
});

test('rows that do not cut are refused with the nearest that do', () => {
  assert.throws(
    () => compile(4, true, 'none', 18),
    /rows: expected a multiple of the 4 ranks of tensorParallel, got 18. The nearest are 16 and 20/,
  );
});
