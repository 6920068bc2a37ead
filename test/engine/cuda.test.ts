// Models on the CUDA device beside the CPU: the same programs, the same numbers but for the order of sums.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { type FloatType, Forward, layoutOf, meshOf, ParameterStore, TrainStep } from '#src/engine/index.js';
import { initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { type NativeCommunicator, type NativeDevice, native } from '#src/native/index.js';
import { CUDA, NO_CUDNN, openCuda, openCudaWith } from '../support/devices.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const ROWS = 24;

interface Job {
  readonly model: Model;
  readonly dtype?: FloatType;
  readonly dropout?: number;
  /** Of ZeRO, over two ranks. */
  readonly group?: { readonly zeroStage: 1 | 2 | 3; readonly communicator: NativeCommunicator };
}

/** Losses, gradient norms and parts of parameters of three steps of two micro-batches each, one of which is also measured alone. */
async function train(device: NativeDevice, { model, group, ...rest }: Job): Promise<number[]> {
  const ranks = group?.communicator.size ?? 1;
  const rank = group?.communicator.rank ?? 0;
  const strategy = group ? { zeroStage: group.zeroStage, mesh: meshOf({ data: ranks }), rank } : ALONE;
  const communicators = group ? { zero: group.communicator } : {};
  const settings = {
    model,
    rows: ROWS,
    device,
    strategy,
    communicators,
    optimizer: OPTIMIZER,
    seed: 3,
    hasEvaluation: true,
  };
  const job = { ...settings, ...rest };
  await using step = TrainStep.create(job);
  initialise(model, 5, step.parameters);
  const seen: number[] = [];
  for (let n = 1; n <= 3; n++) {
    const batches = [0, 1, 2, 3].map((at) => randomBatch([11, 7, 3], ROWS, 37, `${n} ${at}`)).slice(0, 2 * ranks);
    const scale = 1 / batches.reduce((sum, batch) => sum + labelled(batch), 0);
    for (const micro of [0, 1]) {
      const result = await step.micro(batches[micro * ranks + rank]!, { scale, isFirst: micro === 0 });
      seen.push(result.loss, ...result.tokenLosses);
    }
    seen.push(await step.evaluate([batches[rank]!], scale));
    seen.push((await step.update({ lr: 1e-2, step: n })).gradientNorm);
  }
  if (group?.zeroStage === 3) return seen;
  for (const { name } of step.parameters.parameters.slice(0, 4)) seen.push(...step.readParameter(name).slice(0, 40));
  return seen;
}

function near(found: readonly number[], expected: readonly number[], tolerance: number): void {
  assert.equal(found.length, expected.length);
  const size = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length);
  for (const [i, x] of found.entries()) {
    const error = Math.abs(x - expected[i]!) / Math.max(size / 10, Math.abs(expected[i]!));
    assert.ok(error <= tolerance, `number ${i} is ${x}, on the CPU ${expected[i]} (error ${error})`);
  }
}

const cpu = () => native().createDevice({ threads: 2, isa: null, pin: false });

async function on<T>(open: () => NativeDevice, body: (device: NativeDevice) => Promise<T>): Promise<T> {
  const device = open();
  try {
    return await body(device);
  } finally {
    device.dispose();
  }
}

for (const [name, job, tolerance] of [
  ['GPT-2 in f32', { model: tinyGpt2() }, 2e-4],
  ['GPT-2 with dropout in f32', { model: tinyGpt2(), dropout: 0.1 }, 2e-4],
  ['Llama in f32', { model: tinyLlama() }, 2e-4],
  ['GPT-2 in bf16', { model: tinyGpt2(), dtype: 'bf16' }, 6e-2],
  ['GPT-2 with dropout in bf16', { model: tinyGpt2(), dtype: 'bf16', dropout: 0.1 }, 6e-2],
  ['Llama in bf16', { model: tinyLlama(), dtype: 'bf16' }, 6e-2],
] as const) {
  test(`three steps of ${name} on CUDA are those of the CPU`, async () => {
    const expected = await on(cpu, (device) => train(device, job));
    near(await on(CUDA.open, (device) => train(device, job)), expected, tolerance);
  });
}

test('the same job on CUDA gives the same bits twice', async () => {
  const job = { model: tinyGpt2(), dropout: 0.1 };
  const first = await on(CUDA.open, (device) => train(device, job));
  assert.deepEqual(await on(CUDA.open, (device) => train(device, job)), first);
});

/** What each of two ranks sees. */
function trainPair(open: (rank: number) => NativeDevice, zeroStage: 1 | 2 | 3): Promise<number[][]> {
  const name = `raylite-test-${randomUUID()}`;
  return Promise.all(
    [0, 1].map(async (rank) => {
      const communicator = await native().joinShmGroup({ name, rank, size: 2, timeoutMs: 60_000 });
      const job = { model: tinyGpt2(), group: { zeroStage, communicator } };
      try {
        return await on(
          () => open(rank),
          (device) => train(device, job),
        );
      } finally {
        communicator.dispose();
      }
    }),
  );
}

for (const zeroStage of [1, 2, 3] as const) {
  test(`ZeRO stage ${zeroStage} on two GPUs steps as on the CPU`, async () => {
    const found = await trainPair(openCuda, zeroStage);
    const expected = await trainPair(cpu, zeroStage);
    for (const rank of [0, 1]) near(found[rank]!, expected[rank]!, 2e-4);
  });
}

test('a forward over packed rows gives the logits of the CPU', async () => {
  const model = tinyLlama();
  const batch = randomBatch([11, 7, 3], ROWS, 37, 'forward');
  const run = (open: () => NativeDevice) =>
    on(open, async (device) => {
      using store = new ParameterStore(device, layoutOf(model));
      initialise(model, 5, store);
      using forward = new Forward({ model, rows: ROWS, hasLogits: true }, store);
      const { logits, tokenLosses } = await forward.run(batch);
      return [...logits!, ...tokenLosses];
    });
  near(await run(CUDA.open), await run(cpu), 2e-4);
});

test('training on CUDA with rows that are whole sequences takes cuDNN for attention, and our own kernels for the packed ones', {
  skip: NO_CUDNN,
}, async () => {
  const rows = 128;
  const model = modelFromConfig({
    ...{ model_type: 'gpt2', n_layer: 1, n_head: 2, n_embd: 16, n_positions: rows, vocab_size: 37 },
  });
  const lossesOf = async (device: NativeDevice) => {
    const settings = { model, rows, device, strategy: ALONE, optimizer: OPTIMIZER, seed: 3, dtype: 'bf16' } as const;
    await using step = TrainStep.create(settings);
    initialise(model, 5, step.parameters);
    const losses: number[] = [];
    for (const [n, lengths] of [[rows], [rows], [100, 28], [rows], [100, 28]].entries()) {
      const batch = randomBatch(lengths, rows, 37, String(n));
      const { loss } = await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true });
      losses.push(loss, (await step.update({ lr: 1e-2, step: n + 1 })).gradientNorm);
    }
    return { losses, choices: device.choices() };
  };
  const found = await on(() => openCudaWith('cudnn'), lossesOf);
  const own = await on(() => openCudaWith('own'), lossesOf);
  near(found.losses, own.losses, 2e-2);
  assert.equal(found.choices.length, 2, found.choices.join('\n'));
  assert.match(found.choices[0]!, /^attention, bf16, 1 x 128 rows, 2\/2 heads of 8, causal: .*cuDNN/);
});
