// raylite's figures on a GPU, one JSON object per line: single ops by the device's own clock, then whole training steps.
// Out of the archive of `npm run test:gpu`; bench/gpu/peer.py prints the same figures of PyTorch.
import { createDevice, meshOf, type TokenBatch, TrainStep } from '#src/engine/index.js';
import { initialise, modelFromConfig } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { PlanWriter, type TensorHandle } from '../../test/support/native-plan.js';

const REPEATS = 10;
const device = createDevice({ kind: 'cuda', attention: 'measured' });
/** Devices whose attention is always by the same kernels. */
const BY = {
  own: createDevice({ kind: 'cuda', attention: 'own' }),
  cudnn: createDevice({ kind: 'cuda', attention: 'cudnn' }),
} as const;

function show(figure: string, fields: Readonly<Record<string, number | string>>): void {
  console.log(JSON.stringify({ side: 'raylite', figure, ...fields }));
}

/** Median seconds of the instructions after the first of `build`'s op, repeated on memory that holds noise. */
async function secondsOf(build: (plan: PlanWriter) => void, on: NativeDevice = device): Promise<number> {
  const plan = new PlanWriter();
  build(plan);
  const buffer = on.allocate(plan.bytes);
  const noise = new Uint8Array(16 << 20);
  // Exponents of small numbers: what is multiplied costs as much power as in training.
  for (let i = 0; i < noise.length; i += 2) {
    noise[i] = (i * 2654435761) >>> 24;
    noise[i + 1] = 0x3c | ((i * 40503) & 0x80);
  }
  for (let at = 0; at < plan.bytes; at += noise.length)
    on.write(buffer, at, noise.subarray(0, Math.min(noise.length, plan.bytes - at)));
  plan.writeValues(on, buffer);
  const program = on.load(plan.encode(), [buffer], []);
  await program.profile();
  const seconds = [...(await program.profile())].sort((a, b) => a - b);
  program.dispose();
  on.free(buffer);
  return seconds[seconds.length >> 1]!;
}

const times = (count: number, body: () => void): void => {
  for (let i = 0; i < count; i++) body();
};

for (const [n, i, o] of [
  [8192, 8192, 8192],
  [8192, 1600, 6400],
  [8192, 768, 3072],
] as const) {
  const seconds = await secondsOf((plan) => {
    const [x, w, y] = [
      plan.tensor([n, i], null, 'bf16'),
      plan.tensor([o, i], null, 'bf16'),
      plan.tensor([n, o], null, 'bf16'),
    ];
    times(REPEATS, () => plan.op('linear', [x, w], [y], [0, 0]));
  });
  show(`linear ${n}x${i}x${o} bf16`, { seconds, teraflops: (2 * n * i * o) / seconds / 1e12 });
}

{
  const n = 1 << 28;
  const seconds = await secondsOf((plan) => {
    const [p, m, v, g] = [plan.tensor([n]), plan.tensor([n]), plan.tensor([n]), plan.tensor([n])];
    const scalars = [plan.tensor([1]), plan.tensor([1]), plan.tensor([1])];
    const rounded = plan.tensor([n], null, 'bf16');
    times(REPEATS, () =>
      plan.op('adamw', [p, m, v, g, ...scalars], [p, m, v, rounded], [0.9, 0.95, 1e-8, 0.1, n, 1, 1]),
    );
  });
  show('adamw of 2^28', { seconds, terabytesPerSecond: (n * (4 * 7 + 2)) / seconds / 1e12 });
}

for (const d of [4096, 1600]) {
  const n = 16384;
  const seconds = await secondsOf((plan) => {
    const [x, y] = [plan.tensor([n, d], null, 'bf16'), plan.tensor([n, d], null, 'bf16')];
    const [gain, rstd] = [plan.tensor([d], null, 'bf16'), plan.tensor([n])];
    times(REPEATS, () => plan.op('rms_norm', [x, gain], [y, rstd], [1e-6]));
  });
  show(`rms_norm ${n}x${d} bf16`, { seconds, terabytesPerSecond: (n * d * 4) / seconds / 1e12 });
}

for (const [batch, tokens, heads, c] of [
  [4, 2048, 16, 128],
  [8, 1024, 12, 64],
] as const) {
  const n = batch * tokens;
  const width = heads * c;
  const attributes = [heads, heads, c, 1 / Math.sqrt(c), 1, 0, 0, c, 0, c, 0, c];
  const mask = (plan: PlanWriter) => {
    const at = (value: (row: number) => number) => plan.ints(Array.from({ length: n }, (_, row) => value(row)));
    return [at((row) => row - (row % tokens)), at((row) => row - (row % tokens) + tokens)];
  };
  const operand = (plan: PlanWriter): TensorHandle => plan.tensor([n, width], null, 'bf16');
  const forward = (plan: PlanWriter) => {
    const [q, k, v, o, lse] = [operand(plan), operand(plan), operand(plan), operand(plan), plan.tensor([n, heads])];
    const segments = mask(plan);
    times(3, () => plan.op('attention', [q, k, v, ...segments], [o, lse], attributes));
  };
  const backward = (plan: PlanWriter) => {
    const [q, k, v, o, dO] = times5(() => operand(plan));
    const [dq, dk, dv] = times5(() => operand(plan));
    const lse = plan.tensor([n, heads]);
    const segments = mask(plan);
    times(3, () => plan.op('attention_backward', [dO!, o!, lse, q!, k!, v!, ...segments], [dq!, dk!, dv!], attributes));
  };
  const flops = (2 * 2 * batch * heads * tokens * tokens * c) / 2; // causal
  const figures = async (on: NativeDevice) => {
    const [forwardSeconds, backwardSeconds] = [await secondsOf(forward, on), await secondsOf(backward, on)];
    const forwardTeraflops = flops / forwardSeconds / 1e12;
    const backwardTeraflops = (2.5 * flops) / backwardSeconds / 1e12;
    return { forwardSeconds, forwardTeraflops, backwardSeconds, backwardTeraflops };
  };
  const [own, cudnn] = [await figures(BY.own), await figures(BY.cudnn)];
  show(`attention ${batch}x${tokens} of ${heads}x${c} bf16`, {
    ...(await figures(device)),
    ownForwardTeraflops: own.forwardTeraflops,
    ownBackwardTeraflops: own.backwardTeraflops,
    cudnnForwardTeraflops: cudnn.forwardTeraflops,
    cudnnBackwardTeraflops: cudnn.backwardTeraflops,
  });
}

function times5<T>(make: () => T): readonly T[] {
  return Array.from({ length: 5 }, make);
}

const GPT2 = { model_type: 'gpt2', n_positions: 1024, vocab_size: 50257 };
const MODELS = [
  { name: 'GPT-2 124M', config: { ...GPT2, n_layer: 12, n_head: 12, n_embd: 768 }, sequences: 16, tokens: 1024 },
  { name: 'GPT-2 1.5B', config: { ...GPT2, n_layer: 48, n_head: 25, n_embd: 1600 }, sequences: 8, tokens: 1024 },
] as const;
const OPTIMIZER = { kind: 'adamw', beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradientNorm: 1 } as const;

for (const { name, config, sequences, tokens } of MODELS) {
  const model = modelFromConfig(config);
  const rows = sequences * tokens;
  await using step = TrainStep.create({
    model,
    rows,
    strategy: { zeroStage: 0, mesh: meshOf(), rank: 0 },
    optimizer: OPTIMIZER,
    dtype: 'bf16',
    device,
  });
  initialise(model, 0, step.parameters);
  const each = (value: (at: number) => number) => Int32Array.from({ length: rows }, (_, at) => value(at));
  const id = (at: number) => (at * 7919 + at * at * 31 + 13) % model.vocabularySize;
  const batch: TokenBatch = {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each((at) => at - (at % tokens)),
    ends: each((at) => at - (at % tokens) + tokens),
    labels: each((at) => (at % tokens === tokens - 1 ? -100 : id(at + 1))),
  };
  const seconds: number[] = [];
  let loss = 0;
  for (let n = 1; n <= 8; n++) {
    const start = performance.now();
    loss = (await step.micro(batch, { scale: 1 / (rows - sequences), isFirst: true })).loss;
    await step.update({ lr: 1e-4, step: n });
    if (n > 3) seconds.push((performance.now() - start) / 1000);
  }
  const best = Math.min(...seconds);
  const count = step.parameters.parameters.reduce((sum, { length }) => sum + length, 0);
  const flops = rows * (6 * count + 6 * config.n_layer * config.n_embd * tokens);
  show(name, {
    tokensPerSecond: rows / best,
    mfu: flops / best / 989e12,
    loss,
    gibibytes: device.allocatedBytes / 2 ** 30,
  });
}
for (const line of [...device.choices(), ...BY.cudnn.choices()]) console.log(line);
for (const one of [device, BY.own, BY.cudnn]) one.dispose();
