// Whole training steps of models of many sizes: tokens per second, the share of what the GPU could multiply, memory beside the plan.
import { meshOf, type ParameterStore, type StepStorage, type TokenBatch, TrainStep } from '#src/engine/index.js';
import {
  adapterFromConfig,
  initialise,
  initialiseAdapter,
  isAdapted,
  type Model,
  modelFromConfig,
  withAdapter,
} from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import type { Ceilings } from './ops.js';
import { show, type TrainingShape } from './shapes.js';

const OPTIMIZER = { kind: 'adamw', beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradientNorm: 1 } as const;
/** Of an H200 in bf16. */
const PEAK = 989e12;
const WARM_UPS = 3;
const STEPS = 5;

function modelOf({ config, loraRank }: TrainingShape): Model {
  const model = modelFromConfig(config);
  if (loraRank === undefined) return model;
  const adapter = { peft_type: 'LORA', r: loraRank, lora_alpha: 2 * loraRank, target_modules: 'all-linear' };
  return withAdapter(model, adapterFromConfig(adapter));
}

function storageOf({ isBare = false, isOffloaded = false }: TrainingShape): StepStorage & { readonly dtype: 'bf16' } {
  if (isBare) return { dtype: 'bf16', hasMasters: false, stateDtype: 'bf16' };
  return { dtype: 'bf16', ...(isOffloaded && { stateDtype: 'bf16' }) };
}

function batchOf({ sequences, tokens }: TrainingShape, vocabulary: number): TokenBatch {
  const each = (value: (at: number) => number) => Int32Array.from({ length: sequences * tokens }, (_, at) => value(at));
  const id = (at: number) => (at * 7919 + at * at * 31 + 13) % vocabulary;
  return {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each((at) => at - (at % tokens)),
    ends: each((at) => at - (at % tokens) + tokens),
    labels: each((at) => (at % tokens === tokens - 1 ? -100 : id(at + 1))),
  };
}

/** Multiply-adds of a step, doubled: what is computed again does not count. `count`: parameters that rows are multiplied by. */
function flopsOf({ sequences, tokens, config, loraRank }: TrainingShape, count: number): number {
  const layers = Number(config.n_layer ?? config.num_hidden_layers);
  const width = Number(config.n_embd ?? config.hidden_size);
  // Frozen weights have no gradient.
  const perToken = (loraRank === undefined ? 6 : 4) * count + 6 * layers * width * tokens;
  return sequences * tokens * perToken;
}

function multiplied(store: ParameterStore): number {
  const isLookedUp = (name: string) => /wpe|embed_in|embed_tokens/.test(name);
  const isTied = !store.parameters.some(({ name }) => /lm_head|embed_out/.test(name));
  return store.parameters.reduce(
    (sum, { name, length }) => sum + (isLookedUp(name) && !(isTied && /embed_tokens/.test(name)) ? 0 : length),
    0,
  );
}

export async function measureTraining(device: NativeDevice, shape: TrainingShape, ceilings: Ceilings): Promise<void> {
  const { name, sequences, tokens, isOffloaded = false } = shape;
  const model = modelOf(shape);
  const rows = sequences * tokens;
  await using step = TrainStep.create({
    ...storageOf(shape),
    model,
    rows,
    strategy: { zeroStage: isOffloaded ? 1 : 0, mesh: meshOf(), rank: 0 },
    optimizer: OPTIMIZER,
    recompute: isOffloaded ? 'full' : 'cheap',
    ...(isOffloaded && { offload: { optimizer: { device: 'cpu' } } }),
    device,
  });
  initialise(model, 0, step.parameters);
  if (isAdapted(model)) initialiseAdapter(model, 0, step.parameters);
  const batch = batchOf(shape, model.vocabularySize);
  const seconds: number[] = [];
  let loss = 0;
  const train = async (n: number): Promise<void> => {
    loss = (await step.micro(batch, { scale: 1 / (rows - sequences), isFirst: true })).loss;
    await step.update({ lr: 1e-4, step: n });
  };
  for (let n = 1; n <= WARM_UPS + STEPS; n++) {
    const start = performance.now();
    await train(n);
    if (n > WARM_UPS) seconds.push((performance.now() - start) / 1000);
  }
  const best = Math.min(...seconds);
  const flops = flopsOf(shape, multiplied(step.parameters)) / best;
  show(name, {
    tokensPerSecond: rows / best,
    mfu: flops / PEAK,
    ofCeiling: flops / ceilings.flopsPerSecond,
    loss,
    gibibytes: device.allocatedBytes / 2 ** 30,
    plannedGibibytes: step.compiled.memory.totalBytes / 2 ** 30,
    ...(isOffloaded && { hostGibibytes: device.hostBytes / 2 ** 30, overlapped: await overlapOf(step, train) }),
  });
}

/** The share of the time of offload's transfers during which the device computes. */
async function overlapOf(step: TrainStep, train: (n: number) => Promise<void>): Promise<number> {
  step.startProfile();
  await train(WARM_UPS + STEPS + 1);
  const { offloadSeconds, exposedOffloadSeconds } = await step.endProfile(1, 1);
  return offloadSeconds > 0 ? 1 - exposedOffloadSeconds / offloadSeconds : 1;
}
