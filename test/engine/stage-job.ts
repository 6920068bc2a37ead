// A short training job on ranks in one process at any ZeRO stage, and when two of them are the same.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  type FloatType,
  meshOf,
  type OptimizerSettings,
  type Recompute,
  type StateKind,
  TrainStep,
  type ZeroStage,
  type ZeroTuning,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { labelled, OPTIMIZER, randomBatch } from './models-for-tests.js';

/** Rows of a micro-batch. */
export const ROWS = 16;
export const VOCABULARY = 37;
/** No parameter of these small models persists, nothing is kept from one use to the next. */
export const TIGHT: Partial<ZeroTuning> = { paramPersistenceThreshold: 0, maxReuseDistance: 0 };
/** A large eps: steps follow the gradient smoothly, so that rounding stays rounding (Adam makes full steps of noise otherwise). */
export const SMOOTH: OptimizerSettings = { ...OPTIMIZER, eps: 1e-2 };

export interface Job {
  readonly model: () => Model;
  readonly zeroStage: ZeroStage;
  readonly worldSize: number;
  /** Micro-batches of a step, over all ranks. */
  readonly micros: number;
  readonly steps: readonly [from: number, to: number];
  readonly resumeFrom?: readonly Outcome[];
  readonly optimizer?: OptimizerSettings;
  readonly lr?: number;
  readonly dtype?: FloatType;
  readonly tuning?: Partial<ZeroTuning>;
  readonly recompute?: Recompute;
  readonly dropout?: number;
}

export interface Outcome {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly parameters: ReadonlyMap<string, Float32Array>;
  /** What a checkpoint of this rank holds. */
  readonly pieces: readonly { kind: StateKind; name: string; offset: number; values: Float32Array }[];
  readonly microBytes: number;
  readonly updateBytes: number;
}

export async function joinAll(size: number): Promise<(NativeCommunicator | null)[]> {
  if (size === 1) return [null];
  const name = `rlt-${randomUUID()}`;
  const join = (rank: number) => native().joinShmGroup({ name, rank, size, timeoutMs: 60_000 });
  return Promise.all(Array.from({ length: size }, (_, rank) => join(rank)));
}

/** Outcomes by rank. */
export async function run(job: Job): Promise<readonly Outcome[]> {
  const communicators = await joinAll(job.worldSize);
  try {
    return await Promise.all(communicators.map((communicator, rank) => runRank(job, rank, communicator)));
  } finally {
    for (const communicator of communicators) communicator?.dispose();
  }
}

async function runRank(job: Job, rank: number, communicator: NativeCommunicator | null): Promise<Outcome> {
  using opened = openDevice(1);
  const { zeroStage, worldSize, micros, steps, optimizer = SMOOTH, lr = 1e-2, dtype = 'f32' } = job;
  const { tuning = TIGHT, recompute = 'none', dropout = null } = job;
  const model = job.model();
  const strategy = { zeroStage, mesh: meshOf({ data: worldSize }), rank, tuning };
  const settings = {
    model,
    rows: ROWS,
    strategy,
    optimizer,
    dtype,
    recompute,
    dropout,
    device: opened.device,
    communicators: { zero: communicator },
  };
  await using step = TrainStep.create(settings);
  initialise(model, 3, step.parameters);
  if (job.resumeFrom) restore(step, job.resumeFrom);
  const losses: number[] = [];
  const norms: number[] = [];
  let microBytes = 0;
  let updateBytes = 0;
  for (let number = steps[0]; number <= steps[1]; number++) {
    const all = Array.from({ length: micros }, (_, i) => randomBatch([7, 2 + i], ROWS, VOCABULARY, `${number}/${i}`));
    const tokens = all.reduce((sum, batch) => sum + labelled(batch), 0);
    const mine = all.filter((_, index) => index % worldSize === rank);
    const before = communicator?.bytesSent ?? 0;
    let loss = 0;
    for (const [i, batch] of mine.entries())
      loss += (await step.micro(batch, { scale: 1 / tokens, isFirst: i === 0 })).loss;
    const between = communicator?.bytesSent ?? 0;
    norms.push((await step.update({ lr, step: number })).gradientNorm);
    losses.push(loss);
    microBytes = between - before;
    updateBytes = (communicator?.bytesSent ?? 0) - between;
  }
  const parameters = new Map<string, Float32Array>();
  for (const { name } of step.parameters.parameters) parameters.set(name, await step.gatherParameter(name));
  const pieces = step.slices.flatMap((slice) =>
    step.stateOf(slice).map((kind) => ({
      kind,
      name: slice.name,
      offset: slice.parameterOffset,
      values: step.readState(kind, slice),
    })),
  );
  return { losses, norms, parameters, pieces, microBytes, updateBytes };
}

/** As checkpoints do it: parameters whole, state in the slices that the rank owns. */
function restore(step: TrainStep, outcomes: readonly Outcome[]): void {
  const whole = new Map<string, Float32Array>();
  const lengths = new Map(step.parameters.parameters.map(({ name, length }) => [name, length]));
  for (const { kind, name, offset, values } of outcomes.flatMap(({ pieces }) => pieces)) {
    const key = `${kind}/${name}`;
    const target = whole.get(key) ?? new Float32Array(lengths.get(name)!);
    target.set(values, offset);
    whole.set(key, target);
  }
  for (const name of lengths.keys()) step.loadParameter(name, whole.get(`parameter/${name}`)!);
  for (const slice of step.slices)
    for (const kind of step.stateOf(slice)) {
      if (kind === 'parameter') continue; // loaded whole above
      const { parameterOffset, length } = slice;
      const values = whole.get(`${kind}/${slice.name}`)!.subarray(parameterOffset, parameterOffset + length);
      step.writeState(kind, slice, values);
    }
}

export const lossesOf = (outcomes: readonly Outcome[]): readonly number[] =>
  outcomes[0]!.losses.map((_, step) => outcomes.reduce((sum, { losses }) => sum + losses[step]!, 0));

export function assertEqual(found: readonly Outcome[], expected: readonly Outcome[], limit = 1e-5): void {
  const relative = (a: number, b: number, what: string) =>
    assert.ok(Math.abs(a - b) <= limit * Math.abs(b), `${what}: ${a}, expected ${b}`);
  const losses = lossesOf(expected);
  for (const [step, loss] of lossesOf(found).entries()) relative(loss, losses[step]!, `loss of step ${step}`);
  for (const { norms, parameters } of found) {
    for (const [step, norm] of norms.entries()) relative(norm, expected[0]!.norms[step]!, `norm of step ${step}`);
    for (const [name, values] of expected[0]!.parameters) {
      assert.deepEqual(parameters.get(name), found[0]!.parameters.get(name), `${name} on all ranks`);
      // Relative to the parameter as a whole: single elements pass through zero.
      const size = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0)) + 1e-3;
      const error = Math.sqrt(parameters.get(name)!.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0));
      assert.ok(error <= limit * size, `${name} differs by ${error} of ${size}`);
    }
  }
}

const COMMON = { weightDecay: 0.1, maxGradientNorm: 1 };

/** Every optimiser beside AdamW, and a learning rate at which steps are small. */
export const OTHERS: readonly (readonly [OptimizerSettings, number])[] = [
  [{ kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false }, 1e-1],
  [{ kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true }, 1e-1],
  [{ kind: 'adagrad', ...COMMON, eps: 1e-3, lrDecay: 0.1, initialSum: 0.01 }, 1e-2],
  // A sign turns rounding of a gradient near zero into a whole step: small ones.
  [{ kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 }, 1e-6],
  [
    {
      kind: 'muon',
      ...COMMON,
      momentum: 0.95,
      isNesterov: true,
      iterations: 5,
      adam: { beta1: 0.9, beta2: 0.95, eps: 1e-2, rateRatio: 0.5 },
    },
    1e-2,
  ],
];
