// The Trainer on GPUs, emulated ones: workers that get one each exchange by NCCL, workers that share one through the host; the losses
// are those of CPUs, a killed worker changes no bit, and what cannot run is refused with the reason.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Cluster, init } from '#src/client/index.js';
import type { TrainingEvent, TrainingResult } from '#src/train/index.js';
import { EMULATED } from '../support/devices.js';
import { rankPids, sameModel, type TinyOptions, tinyTrainer } from './tiny-trainer.js';

let cluster: Cluster;
let storage: string;
before(async () => {
  process.env.RAYLITE_CUDA_LIBRARY = EMULATED; // what is started from here has it too
  storage = await mkdtemp(join(tmpdir(), 'raylite-gpus-'));
  cluster = await init({ address: 'local', numCpus: 4, numGpus: 2 });
});
after(async () => {
  await cluster[Symbol.asyncDispose]();
  await rm(storage, { recursive: true, force: true });
  delete process.env.RAYLITE_CUDA_LIBRARY;
});

const STEPS = 3;

interface Fit extends TinyOptions {
  readonly onProgress?: (event: TrainingEvent) => void;
}

async function fit(name: string, workers: number, { onProgress, ...more }: Fit = {}) {
  const events: TrainingEvent[] = [];
  const recipe = { maxSteps: STEPS, ...more.recipe };
  const trainer = tinyTrainer(storage, name, workers, { ...more, recipe });
  const result = await trainer.fit({
    onProgress(event) {
      events.push(event);
      onProgress?.(event);
    },
  });
  const started = events.find((event) => event.kind === 'started');
  const notes = events.flatMap((event) => (event.kind === 'notes' ? event.notes : []));
  return { result, group: started?.group, notes };
}

/** By the order of sums alone. */
function near(found: TrainingResult, expected: TrainingResult): void {
  assert.equal(found.losses.length, expected.losses.length);
  for (const [step, loss] of found.losses.entries())
    assert.ok(Math.abs(loss - expected.losses[step]!) < 2e-4, `step ${step}: ${loss} and ${expected.losses[step]}`);
}

test('two workers on GPUs exchange by NCCL at every ZeRO stage, with the losses of one CPU', async () => {
  const one = await fit('cpu', 1);
  for (const zero of [1, 2, 3] as const) {
    const { result, group, notes } = await fit(`gpus-${zero}`, 2, { zero, scaling: { gpusPerWorker: 1 } });
    assert.equal(group, 'nccl');
    assert.deepEqual(notes, []);
    near(result, one.result);
    await sameModel(result.model, one.result.model, 1e-3, /c_attn\.bias$/);
  }
});

test('two GPUs on each matrix, and payloads of ZeRO++ between two, step as CPUs do', async () => {
  const tensor = { scaling: { tensorParallel: 2 }, recipe: { labelSmoothing: 0.1 } };
  const cut = await fit('tensor-gpus', 2, { ...tensor, scaling: { ...tensor.scaling, gpusPerWorker: 1 } });
  assert.equal(cut.group, 'nccl');
  near(cut.result, (await fit('tensor-cpus', 2, tensor)).result);
  const zero_optimization = {
    stage: 3,
    stage3_param_persistence_threshold: 0,
    zero_quantized_weights: true,
    zero_quantized_gradients: true,
  };
  const quantised = await fit('blocks-gpus', 2, { deepspeed: { zero_optimization }, scaling: { gpusPerWorker: 1 } });
  near(quantised.result, (await fit('blocks-cpus', 2, { deepspeed: { zero_optimization } })).result);
});

test('workers that share a GPU exchange through the host, and the run says why', async () => {
  const { result, group, notes } = await fit('shared', 2, { scaling: { gpusPerWorker: 0.5 } });
  assert.equal(group, 'shm');
  assert.match(notes.join(), /GPUs exchange through the host: rank 0 and rank 1 share the GPU 0000:01:00.0/);
  near(result, (await fit('shared-cpu', 1)).result);
});

test('a worker that is killed is replaced, in new groups, and changes no bit', async () => {
  const run = { checkpoint: { everySteps: 1 }, failure: { maxFailures: 1 } };
  const options = { run, scaling: { gpusPerWorker: 1 }, zero: 2 } as const;
  const undisturbed = await fit('undisturbed', 2, options);
  let killed = 0;
  const { result } = await fit('disturbed', 2, {
    ...options,
    onProgress(event) {
      if (event.kind === 'step' && event.step === 2 && killed++ === 0) process.kill(rankPids()[1]!, 'SIGKILL');
    },
  });
  assert.equal(result.metrics.failures, 1);
  assert.deepEqual(result.losses, undisturbed.result.losses);
});

test('a pipeline over GPUs, and samples between its steps', async () => {
  const one = await fit('whole', 1);
  const staged = await fit('staged', 2, { scaling: { gpusPerWorker: 1, pipelineParallel: 2 } });
  near(staged.result, one.result);
  const said: TrainingEvent[] = [];
  await fit('samples', 1, {
    scaling: { gpusPerWorker: 1 },
    run: { samples: { prompts: ['Say'], everySteps: 2, maxNewTokens: 3 } },
    onProgress: (event) => event.kind === 'samples' && said.push(event),
  });
  assert.equal(said.length, 1);
});

test('what cannot run is refused with the reason', async () => {
  await assert.rejects(fit('many', 4, { scaling: { gpusPerWorker: 1 } }), /GPU/);
  await assert.rejects(async () => fit('two', 1, { scaling: { gpusPerWorker: 2 } }), /gpusPerWorker/);
  await assert.rejects(
    async () => fit('profile', 1, { scaling: { gpusPerWorker: 1 }, run: { profile: true } }),
    /trainer\.run\.profile: expected false on GPUs/,
  );
});

test('nodes that offer GPUs without a library for them say so', async () => {
  await cluster[Symbol.asyncDispose]();
  process.env.RAYLITE_CUDA_LIBRARY = join(storage, 'nowhere.so');
  cluster = await init({ address: 'local', numCpus: 4, numGpus: 1 });
  await assert.rejects(
    fit('none', 1, { scaling: { gpusPerWorker: 1 } }),
    /this build has no CUDA half: "npm run build:cuda" makes it/,
  );
});
