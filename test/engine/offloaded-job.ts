// A short training job on ranks in one process, told by everything that it leaves: what offload must not change.
import {
  type Communicators,
  coordinatesOf,
  type FloatType,
  type Mesh,
  meshOf,
  type Offload,
  type OptimizerSettings,
  type ParameterOffload,
  parameterGraph,
  type StateKind,
  type StepStorage,
  TrainStep,
  type ZeroStage,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { held, openDevice } from './device-for-tests.js';
import { joinMesh } from './meshes-for-tests.js';
import { labelled, randomBatch } from './models-for-tests.js';

export const ROWS = 16;
const VOCABULARY = 37;

export interface OffloadJob extends StepStorage {
  readonly model: () => Model;
  readonly zeroStage: ZeroStage;
  /** Data parallel, unless there is a mesh. */
  readonly ranks: number;
  readonly mesh?: Mesh;
  /** Micro-batches of each rank. */
  readonly micros: number;
  readonly optimizer: OptimizerSettings;
  readonly dtype: FloatType;
  readonly steps: number;
  /** A step whose gradients overflow on the last rank, or null. */
  readonly overflowAt: number | null;
  readonly threads?: number;
  /** What each rank runs on. Default: the CPU, with `threads`. */
  readonly open?: (rank: number) => NativeDevice;
  /** At stage 3: where the slices of the parameters are. */
  readonly offloadParam?: ParameterOffload | null;
}

/** Of one rank. */
export interface Trace {
  readonly numbers: readonly (number | boolean)[];
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly pieces: readonly (readonly [kind: StateKind, name: string, offset: number, values: Float32Array])[];
  readonly memory: { readonly deviceBytes: number; readonly hostBytes: number };
  readonly planned: { readonly deviceBytes: number; readonly hostBytes: number; readonly diskBytes: number };
}

/** By rank. */
export async function trace(job: OffloadJob, offload: Offload): Promise<readonly Trace[]> {
  const mesh = job.mesh ?? meshOf({ data: job.ranks });
  const groups = await joinMesh(mesh);
  try {
    return await Promise.all(
      groups.of.map((communicators, rank) => traceRank(job, offload, mesh, rank, communicators)),
    );
  } finally {
    groups.dispose();
  }
}

async function traceRank(
  job: OffloadJob,
  offload: Offload,
  mesh: Mesh,
  rank: number,
  communicators: Communicators,
): Promise<Trace> {
  const { model: build, zeroStage, micros, steps, overflowAt, open, offloadParam = null, ...settings } = job;
  using opened = open ? held(open(rank)) : openDevice(job.threads ?? 1);
  const model = build();
  // What has more than 16 elements is cut at stage 3.
  const tuning = { paramPersistenceThreshold: 16, offloadParam };
  await using train = TrainStep.create({
    ...settings,
    model,
    rows: ROWS,
    strategy: { zeroStage, mesh, rank, tuning },
    pipeline: { micros },
    device: opened.device,
    communicators,
    offload,
  });
  initialise(model, 3, train.parameters);
  const numbers: (number | boolean)[] = [];
  const lossScale = job.dtype === 'f16' ? 256 : 1;
  const { data } = coordinatesOf(mesh, rank);
  let updates = 0;
  for (let step = 1; step <= steps; step++) {
    const batches = Array.from({ length: micros }, (_, micro) =>
      randomBatch([7, 2 + micro], ROWS, VOCABULARY, `${step}/${micro}/${data}`),
    );
    const isOver = step === overflowAt && data === mesh.data - 1;
    const scale = isOver ? 1e9 : 1 / (labelled(batches[0]!) * micros * mesh.data);
    const { results } = await train.micros(batches, { scale, lossScale });
    numbers.push(...results.map(({ loss }) => loss));
    const { gradientNorm, isSkipped } = await train.update({ lr: 1e-2, step: updates + 1, lossScale });
    if (!isSkipped) updates++;
    numbers.push(gradientNorm, isSkipped);
  }
  const memory = { deviceBytes: opened.device.allocatedBytes, hostBytes: opened.device.hostBytes };
  const parameters = new Map<string, Float32Array>();
  // Two ranks of one process cannot look at their devices while one waits for the other within a run: the pieces have all.
  const names = open && zeroStage === 3 ? [] : parameterGraph(model).parameters.keys();
  for (const name of names) parameters.set(name, await train.gatherParameter(name));
  const { totalBytes, hostBytes, diskBytes } = train.compiled.memory;
  return {
    numbers,
    parameters,
    pieces: train.slices.flatMap((slice) =>
      train
        .stateOf(slice)
        .map((kind) => [kind, slice.name, slice.parameterOffset, train.readState(kind, slice)] as const),
    ),
    memory,
    planned: { deviceBytes: totalBytes, hostBytes, diskBytes },
  };
}
