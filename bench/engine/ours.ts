// raylite's side of a training step: answers each line "step" with tokens per second, loss and gradient norm.
// Usage: ours.js THREADS ROWS TOKENS PRECISION FOLDER. FOLDER holds config.json and, unless raylite makes them, the weights.
import { createInterface } from 'node:readline';
import { meshOf, TrainStep } from '#src/engine/index.js';
import { native } from '#src/native/index.js';
import { batchOf, LEARNING_RATE, labelCount, loadWeights, modelOf, OPTIMIZER } from '../training/job.js';

const [threads, rows, tokens] = process.argv.slice(2, 5).map(Number) as [number, number, number];
const [precision, folder] = process.argv.slice(5, 7) as [string, string];

const model = await modelOf(folder);
await using trainer = TrainStep.create({
  model,
  rows: rows * tokens,
  strategy: { zeroStage: 0, mesh: meshOf(), rank: 0 },
  optimizer: OPTIMIZER,
  dtype: precision === 'bf16' ? 'bf16' : 'f32',
  recompute: 'cheap', // as recipes do
  device: native().createDevice({ threads, isa: null, pin: false }),
});
await loadWeights(folder, model, trainer.parameters);
const batch = batchOf(model, rows, tokens, 0);
const scale = 1 / labelCount(batch);
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
