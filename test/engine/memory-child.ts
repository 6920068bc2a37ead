// A process of its own for memory.test.ts: trains a model of about 25 M parameters, alone or as one rank of a group, and prints what the
// plan said and what the kernel counted, in bytes, as JSON.
import { readFileSync } from 'node:fs';
import {
  compileTraining,
  exchangeBytesOf,
  meshOf,
  TrainStep,
  type TrainStepSettings,
  workspaceBytesOf,
} from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import type { MemoryCase } from './memory-case.js';
import { labelled, OPTIMIZER, randomBatch } from './models-for-tests.js';

const VOCABULARY = 4096;
const ROWS = 512;
const THREADS = 2;
const { zeroStage, ranks, rank, group, recompute, tuning, offload }: MemoryCase = JSON.parse(process.argv[2]!);

function status(field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return 1024 * Number(line![1]);
}

type Job = Omit<TrainStepSettings, 'device' | 'communicators'>;

async function train(settings: Job, name: string, told?: () => void): Promise<void> {
  const device = native().createDevice({ threads: THREADS, isa: null, pin: false });
  const zero =
    ranks === 1
      ? null
      : await native().joinShmGroup({ name: `${group}-${name}`, rank, size: ranks, timeoutMs: 60_000 });
  const step = TrainStep.create({ ...settings, device, communicators: { zero } });
  const batch = randomBatch([settings.rows], settings.rows, 37, 'memory');
  for (let n = 0; n < 2; n++) {
    await step.micro(batch, { scale: 1 / labelled(batch) / ranks, isFirst: true });
    await step.update({ lr: 1e-4, step: n + 1 });
  }
  told?.();
  await step[Symbol.asyncDispose]();
  zero?.dispose();
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
const strategy = { zeroStage, mesh: meshOf({ data: ranks }), rank, tuning };
const common = { strategy, optimizer: OPTIMIZER, dropout: 'model', recompute, offload } as const;

// What the process needs by itself is loaded first: code, the compiler's memory, threads.
for (let warm = 0; warm < 3; warm++) await train({ ...common, model: model(64, 7), rows: 64 }, `warm-${warm}`);
const settings = { ...common, model: model(512, 7), rows: ROWS };
compileTraining(settings);
globalThis.gc?.();
const base = status('VmRSS');
await train(settings, 'measured', () => {
  const measured = status('VmHWM') - base; // before what follows allocates
  const { memory } = compileTraining(settings);
  const workspaces = workspaceBytesOf(settings, THREADS);
  const planned = memory.totalBytes + memory.hostBytes + workspaces + exchangeBytesOf(strategy.mesh);
  process.stdout.write(JSON.stringify({ planned, measured }));
});
