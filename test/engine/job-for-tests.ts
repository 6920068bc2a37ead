// Training jobs of several ranks, each with a device of its own in this process: what they lose, step by step, and what they learn.
import assert from 'node:assert/strict';
import {
  type Communicators,
  coordinatesOf,
  jointsOf,
  type Mesh,
  parameterGraph,
  type TrainingSettings,
  TrainStep,
  worldSizeOf,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { openCuda } from '../support/devices.js';
import { openDevice, type TestDevice } from './device-for-tests.js';
import { joinMesh } from './meshes-for-tests.js';
import { labelled, randomBatch } from './models-for-tests.js';

export interface Job extends Pick<TrainingSettings, 'optimizer' | 'dtype' | 'recompute' | 'dropout' | 'loss'> {
  readonly model: Model;
  readonly rows: number;
  readonly mesh: Mesh;
  readonly zeroStage: TrainingSettings['strategy']['zeroStage'];
  /** Micro-batches of a step, over all data parallel ranks. */
  readonly micros: number;
  readonly steps: number;
  readonly lr: number;
  readonly partitionMethod?: NonNullable<TrainingSettings['pipeline']>['partitionMethod'];
  readonly lossScale?: number;
  /** Each rank on a GPU of its own, real or emulated. Default: on the CPU. */
  readonly isOnGpus?: boolean;
  /** What carries messages and collectives. Default: shm. */
  readonly carrier?: 'shm' | 'tcp';
  /** What makes the batches, and the model's first values. */
  readonly seed: string;
}

export interface Outcome {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  /** As all ranks that hold it have it. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly steps: readonly TrainStep[];
}

/** Runs a job to its end. `inspect` sees the engines of all ranks before they go. */
export async function runJob(
  job: Job,
  inspect: (steps: readonly TrainStep[], communicators: readonly Communicators[]) => void = () => {},
  began: (communicators: readonly Communicators[]) => void = () => {},
): Promise<Omit<Outcome, 'steps'>> {
  const size = worldSizeOf(job.mesh);
  const groups = await joinMesh(job.mesh, job.carrier);
  const devices = Array.from({ length: size }, (_, rank) => openDeviceOf(job, rank));
  if (job.isOnGpus)
    await Promise.all(groups.of.map((own, rank) => joinDevice(job.mesh, rank, own, devices[rank]!.device)));
  const steps: TrainStep[] = [];
  try {
    for (const [rank, communicators] of groups.of.entries())
      steps.push(createStep(job, rank, communicators, devices[rank]!.device));
    began(groups.of);
    const histories = await Promise.all(steps.map((step, rank) => trainRank(job, step, rank)));
    inspect(steps, groups.of);
    const norms = histories[0]!.norms;
    for (const history of histories) assert.deepEqual(history.norms, norms);
    const losses = norms.map((_, step) => histories.reduce((sum, history) => sum + history.losses[step]!, 0));
    return { losses, norms, parameters: await gathered(job.model, steps) };
  } finally {
    for (const step of steps) await step[Symbol.asyncDispose]();
    groups.dispose();
    for (const device of devices) device[Symbol.dispose]();
  }
}

function openDeviceOf({ isOnGpus = false }: Job, rank: number): TestDevice {
  if (!isOnGpus) return openDevice(1);
  const device = openCuda(rank);
  return { device, [Symbol.dispose]: () => device.dispose() };
}

/** All groups of a rank, in an order that all ranks have. */
async function joinDevice(mesh: Mesh, rank: number, own: Communicators, device: TestDevice['device']): Promise<void> {
  const joints = jointsOf(mesh, rank).toSorted((a, b) => (a.id < b.id ? -1 : 1));
  for (const { names } of joints) assert.equal(await device.join(own[names[0]!]!, 60_000), null);
}

export function createStep(job: Job, rank: number, communicators: Communicators, device: TrainStepDevice): TrainStep {
  const { model, rows, mesh, zeroStage, micros, optimizer, dtype, recompute, dropout, loss, partitionMethod } = job;
  const step = TrainStep.create({
    model,
    rows,
    strategy: { zeroStage, mesh, rank },
    optimizer,
    ...(dtype && { dtype }),
    ...(recompute && { recompute }),
    ...(dropout !== undefined && { dropout }),
    ...(loss && { loss }),
    pipeline: { micros: micros / mesh.data, ...(partitionMethod && { partitionMethod }) },
    device,
    communicators,
  });
  initialise(model, 3, step.parameters);
  return step;
}

type TrainStepDevice = Parameters<typeof TrainStep.create>[0]['device'];

/** The part of a rank in a job's losses, and the norms that it saw. */
export async function trainRank(job: Job, step: TrainStep, rank: number, from = 1) {
  const { mesh, micros, rows, lossScale = 1 } = job;
  const { data } = coordinatesOf(mesh, rank);
  const losses: number[] = [];
  const norms: number[] = [];
  for (let number = from; number < from + job.steps; number++) {
    const all = Array.from({ length: micros }, (_, index) => batchOf(job, number, index, rows));
    const scale = 1 / all.reduce((sum, batch) => sum + labelled(batch), 0);
    const own = all.filter((_, index) => index % mesh.data === data);
    const done = await step.micros(own, { scale, step: number - 1, lossScale });
    losses.push(done.results.reduce((sum, { loss }) => sum + loss, 0));
    norms.push((await step.update({ lr: job.lr, step: number, lossScale })).gradientNorm);
  }
  return { losses, norms };
}

/** Micro-batch `index` of a step: packed sequences of several lengths, then padding. */
function batchOf({ model, seed }: Job, step: number, index: number, rows: number) {
  const first = 2 + ((step * 7 + index * 5) % (rows - 4));
  const lengths = [first, Math.max(1, Math.floor((rows - first) / 2))];
  return randomBatch(lengths, rows, model.vocabularySize, `${seed}/${step}/${index}`);
}

/** Parameters of the model, as all ranks gather them; what a rank holds of them must be equal bit by bit. */
async function gathered(model: Model, steps: readonly TrainStep[]): Promise<ReadonlyMap<string, Float32Array>> {
  const parameters = new Map<string, Float32Array>();
  for (const name of parameterGraph(model).parameters.keys()) {
    const [first, ...others] = await Promise.all(steps.map((step) => step.gatherParameter(name)));
    for (const values of others) assert.deepEqual(values, first, name);
    for (const { parameters: store } of steps)
      if (store.has(name) && store.partOf(name)?.isAll) assert.deepEqual(store.read(name), first, name);
    parameters.set(name, first!);
  }
  return parameters;
}
