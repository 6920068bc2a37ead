// raylite's side of a training step: answers each line "step" with tokens per second, loss and gradient norm.
// Usage: ours.js THREADS ROWS TOKENS PRECISION FOLDER. FOLDER holds config.json and, unless raylite makes them, the weights.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { meshOf, type TokenBatch, TrainStep } from '#src/engine/index.js';
import { Checkpoint, initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';

const [threads, rows, tokens] = process.argv.slice(2, 5).map(Number) as [number, number, number];
const [precision, folder] = process.argv.slice(5, 7) as [string, string];

const LEARNING_RATE = 1e-4;
const OPTIMIZER = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
} as const;

/** The same token ids as the peer's, packed: each sequence is a segment, its last token predicts nothing; BERT predicts every seventh. */
function makeBatch(vocabulary: number, isMasked: boolean): TokenBatch {
  const each = (value: (at: number) => number) => Int32Array.from({ length: rows * tokens }, (_, at) => value(at));
  const id = (k: number) => (k * 7919 + k * k * 31 + 13) % vocabulary;
  const start = (at: number) => at - (at % tokens);
  const maskedLabel = (at: number) => ((at % tokens) % 7 === 3 ? id(at) : -100);
  return {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each(start),
    ends: each((at) => start(at) + tokens),
    labels: each((at) => (isMasked ? maskedLabel(at) : at % tokens === tokens - 1 ? -100 : id(at + 1))),
  };
}

function create(model: Model): TrainStep {
  return TrainStep.create({
    model,
    rows: rows * tokens,
    strategy: { zeroStage: 0, mesh: meshOf(), rank: 0 },
    optimizer: OPTIMIZER,
    dtype: precision === 'bf16' ? 'bf16' : 'f32',
    recompute: 'cheap', // as recipes do
    device: native().createDevice({ threads, isa: null, pin: false }),
  });
}

async function open(): Promise<{ readonly trainer: TrainStep; readonly model: Model }> {
  if (!existsSync(join(folder, 'model.safetensors'))) {
    const model = modelFromConfig(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
    const trainer = create(model);
    initialise(model, 0, trainer.parameters);
    return { trainer, model };
  }
  await using checkpoint = await Checkpoint.open(folder);
  const trainer = create(checkpoint.model);
  await checkpoint.loadInto(trainer.parameters);
  return { trainer, model: checkpoint.model };
}

const { trainer, model } = await open();
await using _ = trainer;
const batch = makeBatch(model.vocabularySize, model.architecture === 'BertForMaskedLM');
const scale = 1 / batch.labels.filter((label) => label >= 0).length;
console.log(JSON.stringify({ ready: 'raylite' }));
let step = 0;
for await (const _line of createInterface(process.stdin)) {
  step += 1;
  const start = performance.now();
  const { loss } = await trainer.micro(batch, { scale, isFirst: true });
  const { gradientNorm } = await trainer.update({ lr: LEARNING_RATE, step });
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ value: (rows * tokens) / seconds, loss, norm: gradientNorm }));
}
