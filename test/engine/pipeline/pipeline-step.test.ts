// Pipelines train the model that one rank trains: losses, gradient norms and weights, whatever the schedule, the cut and what else
// the ranks share.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AdamWSettings, type Communicators, compilePipeline, type Mesh, meshOf } from '#src/engine/index.js';
import { adapterFromConfig, type Model, modelFromConfig, withAdapter } from '#src/models/index.js';
import { type Job, runJob } from '../job-for-tests.js';
import { OPTIMIZER } from '../models-for-tests.js';

const ROWS = 16;
const LINKS = ['forwardIn', 'forwardOut', 'backwardIn', 'backwardOut'] as const;
const SMOOTH: AdamWSettings = { ...OPTIMIZER, eps: 1e-2 };

const gpt2 = (layers = 4, more: Record<string, unknown> = {}): Model =>
  modelFromConfig({
    model_type: 'gpt2',
    n_layer: layers,
    n_head: 2,
    n_embd: 16,
    n_positions: 64,
    vocab_size: 37,
    ...more,
  });
const llama = (layers = 4): Model =>
  modelFromConfig({
    model_type: 'llama',
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 64,
    vocab_size: 37,
  });

const job = (more: Partial<Job>): Job => ({
  model: gpt2(),
  rows: ROWS,
  mesh: meshOf(),
  zeroStage: 0,
  micros: 4,
  steps: 3,
  lr: 1e-2,
  optimizer: SMOOTH,
  seed: 'pipeline',
  ...more,
});

async function expectSame(more: Partial<Job>, mesh: Partial<Mesh>, limit = 1e-5): Promise<void> {
  const alone = await runJob(job({ ...more, mesh: meshOf(), zeroStage: 0 }));
  const piped = await runJob(job({ ...more, mesh: meshOf(mesh) }));
  close(piped.losses, alone.losses, limit, 'losses');
  close(piped.norms, alone.norms, Math.max(limit, 1e-6), 'norms'); // summed stage by stage
  assert.deepEqual([...piped.parameters.keys()].sort(), [...alone.parameters.keys()].sort());
  for (const [name, values] of alone.parameters) close([...piped.parameters.get(name)!], [...values], limit, name);
}

function close(found: readonly number[], wanted: readonly number[], limit: number, what: string): void {
  assert.equal(found.length, wanted.length, what);
  const size = Math.max(...wanted.map(Math.abs), 1e-3);
  for (const [i, value] of wanted.entries())
    assert.ok(Math.abs(found[i]! - value) <= limit * size, `${what}[${i}]: ${found[i]} instead of ${value}`);
}

test('two stages of GPT-2, whose first and last share a matrix, train as one rank', () =>
  expectSame({}, { pipeline: 2 }));

test('four stages of LLaMA train as one rank, bit by bit where no norm is shared', async () => {
  await expectSame({ model: llama(), micros: 6 }, { pipeline: 4 });
  await expectSame({ model: llama(), micros: 6, optimizer: { ...SMOOTH, maxGradientNorm: 0 } }, { pipeline: 4 }, 0);
});

test('fewer micro-batches than stages', () => expectSame({ micros: 2 }, { pipeline: 4 }));

test('interleaved chunks', () => expectSame({ micros: 4 }, { pipeline: 2, chunks: 2 }));

test('stages × data parallel ranks at ZeRO stages 0 and 1', async () => {
  await expectSame({ micros: 8 }, { pipeline: 2, data: 2 });
  await expectSame({ micros: 8, zeroStage: 1, model: gpt2(4) }, { pipeline: 2, data: 2 });
});

test('stages that talk over TCP', async () => {
  await expectSame({ carrier: 'tcp', micros: 8, zeroStage: 1 }, { pipeline: 2, chunks: 2, data: 2 });
});

test('stages on GPUs, which hand their messages on past the host', async () => {
  for (const mesh of [{ pipeline: 2 }, { pipeline: 3 }, { pipeline: 2, chunks: 2, data: 2 }]) {
    const more = { micros: 4, steps: 3 };
    const alone = await runJob(job(more));
    const sentOf = (groups: readonly Communicators[]) =>
      groups.flatMap((own) => LINKS.map((name) => own[name]?.bytesSent ?? 0));
    let [before, after]: (readonly number[])[] = [[], []];
    const piped = await runJob(
      job({ ...more, mesh: meshOf(mesh), isOnGpus: true }),
      (_, groups) => {
        after = sentOf(groups);
      },
      (groups) => {
        before = sentOf(groups);
      },
    );
    close(piped.losses, alone.losses, 1e-4, 'losses');
    close(piped.norms, alone.norms, 1e-4, 'norms');
    assert.deepEqual(after, before, 'no byte of a message went over the host');
  }
});

test('the cut drops the same elements', () =>
  expectSame(
    { model: gpt2(3, { resid_pdrop: 0.2, embd_pdrop: 0.1, attn_pdrop: 0.1 }), dropout: 'model' },
    { pipeline: 3 },
  ));

test('blocks computed again inside a stage', () => expectSame({ recompute: 'full' }, { pipeline: 2 }));

test('bf16: the bits that one rank has, but for sums over stages', () =>
  expectSame({ dtype: 'bf16', model: llama() }, { pipeline: 2 }, 1e-3));

test('an adapter on a frozen model', () => {
  const adapter = adapterFromConfig(
    { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['c_attn'], bias: 'none', task_type: 'CAUSAL_LM' },
    'adapter',
  );
  return expectSame({ model: withAdapter(gpt2(), adapter) }, { pipeline: 2 });
});

test('a stage holds its own parameters alone', async () => {
  const held: string[][] = [];
  await runJob(job({ mesh: meshOf({ pipeline: 2 }), steps: 1 }), (steps) => {
    for (const step of steps) held.push(step.parameters.parameters.map(({ name }) => name));
  });
  assert.ok(held[0]!.includes('transformer.wpe.weight') && !held[0]!.includes('transformer.ln_f.weight'));
  assert.ok(held[1]!.includes('transformer.ln_f.weight') && !held[1]!.includes('transformer.wpe.weight'));
  assert.ok(held.every((names) => names.includes('transformer.wte.weight')));
});

test('a stage allocates what its plan says: a set of kept activations for each micro-batch on its way', async () => {
  for (const mesh of [{ pipeline: 4 }, { pipeline: 2, chunks: 2 }] as const) {
    await runJob(job({ mesh: meshOf(mesh), micros: 4, steps: 1 }), (steps) => {
      for (const [stage, { compiled, parameters }] of steps.entries()) {
        assert.ok(compiled.kind === 'pipeline');
        if (mesh.pipeline === 4) assert.equal(compiled.parts[0]!.sets, 4 - stage);
        const { totalBytes } = compiled.memory;
        const { allocatedBytes } = parameters.device;
        assert.ok(Math.abs(allocatedBytes - totalBytes) <= 0.03 * totalBytes, `${allocatedBytes} of ${totalBytes}`);
      }
    });
  }
});

test('what has no pipeline is refused by name', () => {
  const compile = (more: Partial<Job>, mesh: Partial<Mesh>, micros = 4) => {
    const { model, rows, optimizer, zeroStage } = job(more);
    const strategy = { zeroStage, mesh: meshOf(mesh), rank: 0 };
    return compilePipeline({ model, rows, optimizer, strategy, pipeline: { micros } });
  };
  assert.throws(() => compile({}, { pipeline: 5 }), /pipeline: expected at most 4 parts .*the blocks of the model/);
  assert.throws(
    () => compile({ zeroStage: 2 }, { pipeline: 2 }),
    /zero_optimization\.stage: expected 0 or 1 with a pipeline/,
  );
  assert.throws(() => compile({}, { pipeline: 2, chunks: 2 }, 3), /Accumulate 2 or 4 micro-batches/);
});
