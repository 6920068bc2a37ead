// A process of its own for memory.test.ts: trains a model of about 25 M parameters and prints what the plan said and what the
// kernel counted, in bytes, as JSON.
import { readFileSync } from 'node:fs';
import { compileTraining, TrainStep, type TrainStepSettings, workspaceBytesOf } from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { ALONE, labelled, OPTIMIZER, randomBatch } from './models-for-tests.js';

const VOCABULARY = 4096;
const ROWS = 512;
const recompute = process.argv[2] === 'full' ? 'full' : 'none';

function status(field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return 1024 * Number(line![1]);
}

async function train(settings: Omit<TrainStepSettings, 'device' | 'communicators'>): Promise<void> {
  const device = native().createDevice({ threads: 2, isa: null, pin: false });
  const step = TrainStep.create({ ...settings, device });
  for (const { name } of step.parameters.parameters) step.parameters.view(name).fill(0.01);
  const batch = randomBatch([settings.rows], settings.rows, 37, 'memory');
  for (let n = 0; n < 2; n++) {
    await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true });
    await step.update({ lr: 1e-4, step: n + 1 });
  }
  if (settings.rows === ROWS) {
    const { memory } = compileTraining(settings);
    const planned = memory.totalBytes + workspaceBytesOf(settings, 2);
    process.stdout.write(JSON.stringify({ planned, measured: status('VmHWM') - base }));
  }
  await step[Symbol.asyncDispose]();
  device.dispose();
}

const model = (width: number, layers: number) =>
  modelFromConfig({
    model_type: 'gpt2',
    n_layer: layers,
    n_head: 8,
    n_embd: width,
    n_positions: 512,
    vocab_size: VOCABULARY,
  });
const common = { strategy: ALONE, optimizer: OPTIMIZER, dropout: 'model', recompute } as const;

// What the process needs by itself is loaded first: code, the compiler's memory, threads.
for (let warm = 0; warm < 3; warm++) await train({ ...common, model: model(64, 7), rows: 64 });
globalThis.gc?.();
const base = status('VmRSS');
await train({ ...common, model: model(512, 7), rows: ROWS });
