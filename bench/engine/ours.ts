// raylite's side of the training step: answers each line "step" with tokens per second, loss and gradient norm.
// Usage: ours.js THREADS ROWS TOKENS FOLDER. FOLDER holds the weights to start from; without it they are made here.
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type TokenBatch, TrainStep } from '#src/engine/index.js';
import { Checkpoint, initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';

const [threads, rows, tokens] = process.argv.slice(2, 5).map(Number) as [number, number, number];
const folder = process.argv[5]!;

const LEARNING_RATE = 1e-4;
const OPTIMIZER = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
} as const;
const GPT2 = {
  model_type: 'gpt2',
  n_embd: 768,
  n_head: 12,
  n_layer: 12,
  n_positions: 1024,
  vocab_size: 50257,
  layer_norm_epsilon: 1e-5,
  initializer_range: 0.02,
  activation_function: 'gelu_new',
};

/** The same token ids as the peer's, packed: each sequence is a segment, its last token predicts nothing. */
function makeBatch(): TokenBatch {
  const each = (value: (at: number) => number) => Int32Array.from({ length: rows * tokens }, (_, at) => value(at));
  const id = (k: number) => (k * 7919 + k * k * 31 + 13) % 50257;
  const start = (at: number) => at - (at % tokens);
  return {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each(start),
    ends: each((at) => start(at) + tokens),
    labels: each((at) => (at % tokens === tokens - 1 ? -100 : id(at + 1))),
  };
}

async function openTrainer(): Promise<TrainStep> {
  const create = (model: Model) =>
    TrainStep.create({
      model,
      rows: rows * tokens,
      strategy: { zeroStage: 0, rank: 0, worldSize: 1 },
      optimizer: OPTIMIZER,
      device: native().createDevice({ threads, isa: null, pin: false }),
      communicator: null,
    });
  if (!existsSync(folder)) {
    const model = modelFromConfig(GPT2);
    const trainer = create(model);
    initialise(model, 0, trainer.parameters);
    return trainer;
  }
  await using checkpoint = await Checkpoint.open(folder);
  const trainer = create(checkpoint.model);
  await checkpoint.loadInto(trainer.parameters);
  return trainer;
}

await using trainer = await openTrainer();
const batch = makeBatch();
const scale = 1 / (rows * (tokens - 1));
console.log(JSON.stringify({ ready: 'raylite' }));
let step = 0;
for await (const _ of createInterface(process.stdin)) {
  step += 1;
  const start = performance.now();
  const { loss } = await trainer.micro(batch, { scale, isFirst: true });
  const { gradientNorm } = await trainer.update({ lr: LEARNING_RATE, step });
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ value: (rows * tokens) / seconds, loss, norm: gradientNorm }));
}
