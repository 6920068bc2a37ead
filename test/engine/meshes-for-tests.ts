// Runs a training job on every rank of a mesh in one process, and holds its losses, norms and parameters against those of one rank.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  type Communicators,
  coordinatesOf,
  type Dropout,
  type FloatType,
  jointsOf,
  type LossOptions,
  type Mesh,
  meshOf,
  type Offload,
  type OptimizerSettings,
  parameterGraph,
  type Recompute,
  type TokenBatch,
  TrainStep,
  worldSizeOf,
  type ZeroStage,
  type ZeroTuning,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { labelled, OPTIMIZER, randomBatch } from './models-for-tests.js';

// A large eps: steps follow the gradient smoothly, so that rounding stays rounding (Adam makes full steps of noise otherwise).
export const SMOOTH: OptimizerSettings = { ...OPTIMIZER, eps: 1e-2 };

export interface MeshJob {
  readonly model: () => Model;
  readonly rows?: number;
  readonly mesh?: Partial<Mesh>;
  readonly zeroStage?: ZeroStage;
  /** Of a step, over all ranks. Default 2. */
  readonly micros?: number;
  readonly steps?: number;
  readonly optimizer?: OptimizerSettings;
  readonly dtype?: FloatType;
  readonly loss?: LossOptions;
  readonly dropout?: Dropout;
  readonly recompute?: Recompute;
  readonly sequenceParallelNorms?: boolean;
  readonly offload?: Offload;
  readonly tuning?: Partial<ZeroTuning>;
  /** Sequences of each micro-batch. Default: two, and padding. */
  readonly lengths?: readonly number[];
  readonly batch?: (seed: string, rows: number) => TokenBatch;
  /** Measures the micro-batches of each step too, between its backward and its update. Default false. */
  readonly hasEvaluation?: boolean;
}

export interface MeshOutcome {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  /** Of the micro-batches of each step, where they were asked for. */
  readonly evaluations: readonly number[];
  /** Whole, as every rank gathers them. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly tokenLosses: readonly (readonly number[])[];
  /** By rank. */
  readonly bytes: readonly Readonly<Record<'micro' | 'update', Readonly<Partial<Record<string, number>>>>>[];
  readonly hashes: readonly string[];
}

interface RankOutcome {
  readonly losses: readonly number[];
  readonly evaluations: readonly number[];
  readonly norms: readonly number[];
  readonly tokenLosses: readonly (readonly number[])[];
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly step: TrainStep;
  readonly bytes: MeshOutcome['bytes'][number];
}

/** Communicators of every rank, over shared memory or TCP; `dispose` ends them. */
export async function joinMesh(
  mesh: Mesh,
  carrier: 'shm' | 'tcp' = 'shm',
): Promise<{ readonly of: readonly Communicators[]; dispose(): void }> {
  const token = randomUUID();
  const all: NativeCommunicator[] = [];
  const listening = new Map<string, { readonly port: number; readonly listener: object }>();
  if (carrier === 'tcp')
    for (let rank = 0; rank < worldSizeOf(mesh); rank++)
      for (const { id } of jointsOf(mesh, rank)) listening.set(`${id}/${rank}`, native().listenTcpGroup('127.0.0.1'));
  const joinRank = async (rank: number): Promise<Communicators> => {
    const joined: Record<string, NativeCommunicator> = {};
    const joining = jointsOf(mesh, rank).map(async ({ id, names, ranks, index, size }) => {
      const common = { rank: index, timeoutMs: 60_000 };
      const peerOf = (peer: number) => listening.get(`${id}/${peer}`)!;
      const addresses = carrier === 'tcp' ? ranks.map((peer) => `127.0.0.1:${peerOf(peer).port}`) : [];
      const communicator = await (carrier === 'tcp'
        ? native().joinTcpGroup({ ...common, listener: peerOf(rank).listener, addresses, secret: token })
        : native().joinShmGroup({ ...common, name: `rlt-${token}-${id}`, size }));
      all.push(communicator);
      for (const name of names) joined[name] = communicator;
    });
    await Promise.all(joining);
    return joined;
  };
  const of = await Promise.all(Array.from({ length: worldSizeOf(mesh) }, (_, rank) => joinRank(rank)));
  return {
    of,
    dispose: () => {
      for (const communicator of all) communicator.dispose();
    },
  };
}

export async function runMesh(job: MeshJob): Promise<MeshOutcome> {
  const mesh = meshOf(job.mesh);
  const groups = await joinMesh(mesh);
  try {
    const ranks = await Promise.all(groups.of.map((communicators, rank) => runRank(job, mesh, rank, communicators)));
    const first = (rank: number) => {
      const { tensor, pipeline } = coordinatesOf(mesh, rank);
      return tensor === 0 && pipeline === mesh.pipeline - 1;
    };
    const sums = (of: 'losses' | 'evaluations') =>
      ranks[0]![of].map((_, step) => ranks.reduce((sum, each, rank) => sum + (first(rank) ? each[of][step]! : 0), 0));
    for (const { norms, parameters } of ranks) {
      assert.deepEqual(norms, ranks[0]!.norms, 'every rank finds the same norm');
      assert.deepEqual(parameters, ranks[0]!.parameters, 'every rank gathers the same model');
    }
    return {
      losses: sums('losses'),
      evaluations: sums('evaluations'),
      norms: ranks[0]!.norms,
      tokenLosses: ranks[0]!.tokenLosses,
      parameters: ranks[0]!.parameters,
      bytes: ranks.map(({ bytes }) => bytes),
      hashes: ranks.map(({ step }) => step.compiled.jobHash),
    };
  } finally {
    groups.dispose();
  }
}

async function runRank(job: MeshJob, mesh: Mesh, rank: number, communicators: Communicators): Promise<RankOutcome> {
  using opened = openDevice(1);
  const { zeroStage = 0, micros = 2, steps = 3, rows = 16, lengths = [7, 5], loss, dropout, recompute } = job;
  const { sequenceParallelNorms = false, hasEvaluation = false, offload, tuning } = job;
  const model = job.model();
  const { data } = coordinatesOf(mesh, rank);
  const strategy = { zeroStage, mesh, rank, ...(tuning && { tuning }) };
  await using step = TrainStep.create({
    model,
    rows,
    strategy,
    optimizer: job.optimizer ?? SMOOTH,
    dtype: job.dtype ?? 'f32',
    device: opened.device,
    communicators,
    ...(loss ? { loss } : {}),
    ...(dropout !== undefined ? { dropout } : {}),
    ...(recompute ? { recompute } : {}),
    sequenceParallelNorms,
    hasEvaluation,
    ...(offload && { offload }),
    ...(mesh.pipeline > 1 ? { pipeline: { micros: micros / mesh.data } } : {}),
    seed: 11,
  });
  initialise(model, 3, step.parameters);
  const losses: number[] = [];
  const norms: number[] = [];
  const evaluations: number[] = [];
  const tokenLosses: number[][] = [];
  const sent = () => Object.fromEntries(Object.entries(communicators).map(([name, group]) => [name, group!.bytesSent]));
  let bytes: RankOutcome['bytes'] = { micro: {}, update: {} };
  for (let number = 1; number <= steps; number++) {
    const make = job.batch ?? ((seed: string) => randomBatch(lengths, rows, model.vocabularySize, seed));
    const all = Array.from({ length: micros }, (_, i) => make(`${number}/${i}`, rows));
    const tokens = all.reduce((sum, batch) => sum + labelled(batch), 0);
    const mine = all.filter((_, index) => index % mesh.data === data);
    const start = sent();
    let sum = 0;
    const { results } = await step.micros(mine, { scale: 1 / tokens });
    for (const { loss, tokenLosses: perRow } of results) {
      sum += loss;
      tokenLosses.push([...perRow]);
    }
    if (hasEvaluation) evaluations.push(await step.evaluate(mine, 1 / tokens));
    const between = sent();
    norms.push((await step.update({ lr: 1e-2, step: number })).gradientNorm);
    losses.push(sum);
    bytes = { micro: difference(between, start), update: difference(sent(), between) };
  }
  const parameters = new Map<string, Float32Array>();
  for (const name of parameterGraph(model).parameters.keys()) parameters.set(name, await step.gatherParameter(name));
  return { losses, evaluations, norms, tokenLosses, parameters, step, bytes };
}

function difference(later: Readonly<Record<string, number>>, earlier: Readonly<Record<string, number>>) {
  return Object.fromEntries(Object.entries(later).map(([name, value]) => [name, value - earlier[name]!]));
}

/** Losses, norms and parameters are those of `expected`, up to rounding. */
export function assertSame(found: MeshOutcome, expected: MeshOutcome, limit = 1e-5): void {
  const relative = (a: number, b: number, what: string) =>
    assert.ok(Math.abs(a - b) <= limit * Math.abs(b), `${what}: ${a}, expected ${b}`);
  for (const [step, loss] of found.losses.entries()) relative(loss, expected.losses[step]!, `loss of step ${step}`);
  for (const [step, norm] of found.norms.entries()) relative(norm, expected.norms[step]!, `norm of step ${step}`);
  assert.deepEqual([...found.parameters.keys()].sort(), [...expected.parameters.keys()].sort());
  for (const [name, values] of expected.parameters) {
    // Relative to the parameter as a whole: single elements pass through zero.
    const size = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0)) + 1e-3;
    const other = found.parameters.get(name)!;
    const error = Math.sqrt(other.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0));
    assert.ok(error <= limit * size, `${name} differs by ${error} of ${size}`);
  }
  assert.equal(new Set(found.hashes).size, 1, 'every rank has the hash of the job');
}
