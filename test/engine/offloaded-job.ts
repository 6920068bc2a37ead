// A short training job on ranks in one process, told by everything that it leaves: what offload must not change.
import { randomUUID } from 'node:crypto';
import {
  type FloatType,
  meshOf,
  type Offload,
  type OptimizerSettings,
  type StateKind,
  type StepStorage,
  TrainStep,
  type ZeroStage,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { labelled, randomBatch } from './models-for-tests.js';

export const ROWS = 16;
const VOCABULARY = 37;

export interface OffloadJob extends StepStorage {
  readonly model: () => Model;
  readonly zeroStage: ZeroStage;
  readonly ranks: number;
  /** Micro-batches of each rank. */
  readonly micros: number;
  readonly optimizer: OptimizerSettings;
  readonly dtype: FloatType;
  readonly steps: number;
  /** A step whose gradients overflow on the last rank, or null. */
  readonly overflowAt: number | null;
  readonly threads?: number;
  /** At stage 3: the slices of the parameters are on the host. */
  readonly hasParametersOnHost?: boolean;
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
  const { ranks: size } = job;
  const name = `rlt-${randomUUID()}`;
  const join = (rank: number) => native().joinShmGroup({ name, rank, size, timeoutMs: 60_000 });
  const groups = size === 1 ? [null] : await Promise.all(Array.from({ length: size }, (_, rank) => join(rank)));
  try {
    return await Promise.all(groups.map((group, rank) => traceRank(job, offload, rank, group)));
  } finally {
    for (const group of groups) group?.dispose();
  }
}

async function traceRank(
  job: OffloadJob,
  offload: Offload,
  rank: number,
  group: NativeCommunicator | null,
): Promise<Trace> {
  using opened = openDevice(job.threads ?? 1);
  const { model: build, zeroStage, ranks, micros, steps, overflowAt, hasParametersOnHost = false, ...settings } = job;
  const model = build();
  await using train = TrainStep.create({
    ...settings,
    model,
    rows: ROWS,
    // What has more than 16 elements is cut at stage 3.
    strategy: {
      zeroStage,
      mesh: meshOf({ data: ranks }),
      rank,
      tuning: { paramPersistenceThreshold: 16, hasParametersOnHost },
    },
    device: opened.device,
    communicators: { zero: group, world: group },
    offload,
  });
  initialise(model, 3, train.parameters);
  const numbers: (number | boolean)[] = [];
  const lossScale = job.dtype === 'f16' ? 256 : 1;
  let updates = 0;
  for (let step = 1; step <= steps; step++) {
    for (let micro = 0; micro < micros; micro++) {
      const batch = randomBatch([7, 2 + micro], ROWS, VOCABULARY, `${step}/${micro}/${rank}`);
      const isOver = step === overflowAt && rank === ranks - 1;
      const scale = isOver ? 1e9 : 1 / (labelled(batch) * micros * ranks);
      numbers.push((await train.micro(batch, { scale, isFirst: micro === 0, lossScale })).loss);
    }
    const { gradientNorm, isSkipped } = await train.update({ lr: 1e-2, step: updates + 1, lossScale });
    if (!isSkipped) updates++;
    numbers.push(gradientNorm, isSkipped);
  }
  const memory = { deviceBytes: opened.device.allocatedBytes, hostBytes: opened.device.hostBytes };
  const parameters = new Map<string, Float32Array>();
  for (const { name } of train.parameters.parameters) parameters.set(name, await train.gatherParameter(name));
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
