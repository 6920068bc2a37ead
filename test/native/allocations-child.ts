// A process of its own for allocations.test.ts: `layers` blocks, `steps` training steps on two threads.
import { TrainStep } from '#src/engine/index.js';
import { initialise, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { ALONE, labelled, OPTIMIZER, randomBatch } from '../engine/models-for-tests.js';

const [layers, rows, steps] = process.argv.slice(2).map(Number) as [number, number, number];
const model = modelFromConfig({
  model_type: 'gpt2',
  n_layer: layers,
  n_head: 4,
  n_embd: 64,
  n_positions: 256,
  vocab_size: 500,
});
const device = native().createDevice({ threads: 2, isa: null, pin: false });
const settings = { model, rows, strategy: ALONE, optimizer: OPTIMIZER, device } as const;
const step = TrainStep.create({ ...settings, dropout: 'model', recompute: 'full' });
initialise(model, 1, step.parameters);
const batch = randomBatch([Math.floor(rows / 2), Math.floor(rows / 3)], rows, 500, 'allocations');
for (let n = 1; n <= steps; n++) {
  await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true });
  await step.update({ lr: 1e-3, step: n });
}
await step[Symbol.asyncDispose]();
device.dispose();
