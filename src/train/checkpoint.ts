// Training checkpoints: every rank writes the slices it owns, an index written last makes them a checkpoint. Slices are named
// by parameter, offset and how a tensor group cuts it, not by rank, so that any layout can go on from them. A torn write is never an index.
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../common/index.js';
import {
  type Arrival,
  cutText,
  parseCut,
  planMoves,
  StateExchange,
  type StateKind,
  type StatePiece,
  type TrainStep,
} from '../engine/index.js';
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from '../models/index.js';

const INDEX = 'index.json';

const indexSchema = z.object({
  format: z.literal(1),
  /** Optimizer steps done. */
  step: z.int().min(0),
  files: z.array(z.string().regex(/^[\w.-]+\.safetensors$/)).min(1),
  /** Model, data, seed and sizes that the run must share to go on from here. */
  fingerprint: z.string(),
  /** Loss of every step so far; null where it was not finite, in a step that was skipped. */
  losses: z.array(
    z
      .number()
      .nullable()
      .transform((loss) => loss ?? Number.NaN),
  ),
  /** What was measured on held-out records so far. */
  heldOutLosses: z
    .array(
      z.object({
        step: z.int().min(1),
        loss: z
          .number()
          .nullable()
          .transform((loss) => loss ?? Number.NaN),
      }),
    )
    .default([]),
  /** Of 16-bit runs: where the loss scale stands. */
  scaler: z
    .object({
      lossScale: z.object({ scale: z.number(), hysteresisLeft: z.int(), goodSteps: z.int() }).nullable(),
      skippedSteps: z.int().min(0),
      skippedInARow: z.int().min(0).default(0),
    })
    .default({ lossScale: null, skippedSteps: 0, skippedInARow: 0 }),
});
export type CheckpointIndex = z.infer<typeof indexSchema>;

const folderOf = (step: number): string => `checkpoint-${String(step).padStart(6, '0')}`;

/** Where the checkpoint after `step` steps lies. */
export const checkpointPath = (runPath: string, step: number): string => join(runPath, folderOf(step));

/** Writes what this rank owns and returns the file's name. */
export async function writeSlices(path: string, train: TrainStep, rank: number): Promise<string> {
  await mkdir(path, { recursive: true });
  const cutOf = (name: string) => {
    const cut = train.parameters.cutOf(name);
    return cut ? `~${cutText(cut, train.tensorRank)}` : '';
  };
  const tensors = train.savedSlices.flatMap((slice) =>
    train.stateOf(slice).map(
      (kind): TensorToWrite => ({
        name: `${slice.name}@${slice.parameterOffset}${cutOf(slice.name)}/${kind}`,
        shape: [slice.length],
        read: () => train.readState(kind, slice),
      }),
    ),
  );
  const name = `rank-${String(rank).padStart(5, '0')}.safetensors`;
  await writeSafetensors(join(path, name), tensors);
  return name;
}

/** Makes the written slices a checkpoint, then removes all but the newest `keep`. */
export async function commit(runPath: string, index: CheckpointIndex, keep: number): Promise<string> {
  const path = checkpointPath(runPath, index.step);
  await writeFile(join(path, `${INDEX}.tmp`), `${JSON.stringify(index)}\n`);
  await rename(join(path, `${INDEX}.tmp`), join(path, INDEX));
  const steps = (await completeSteps(runPath)).sort((a, b) => b - a);
  for (const old of steps.slice(keep)) await rm(checkpointPath(runPath, old), { recursive: true, force: true });
  return path;
}

/** The newest complete checkpoint of a run, or null. */
export async function newest(
  runPath: string,
): Promise<{ readonly path: string; readonly index: CheckpointIndex } | null> {
  const step = Math.max(...(await completeSteps(runPath)));
  if (step < 0) return null;
  const path = checkpointPath(runPath, step);
  return { path, index: await readIndex(path) };
}

async function readIndex(path: string): Promise<CheckpointIndex> {
  const place = join(path, INDEX);
  let json: unknown;
  try {
    json = JSON.parse(await readFile(place, 'utf8'));
  } catch (cause) {
    throw new DataError({ place, detail: `cannot be read (${(cause as Error).message})` }, { cause });
  }
  const index = indexSchema.safeParse(json);
  if (index.success) return index.data;
  const issue = index.error.issues[0];
  throw new DataError({ place, detail: `is not a checkpoint's index: ${issue?.path.join('.')} ${issue?.message}` });
}

/** Steps whose index exists; -1 stands in when there are none. */
async function completeSteps(runPath: string): Promise<number[]> {
  const entries = await readdir(runPath).catch(() => []);
  const steps = [-1];
  for (const entry of entries) {
    const step = /^checkpoint-(\d{6,})$/.exec(entry)?.[1];
    if (step !== undefined && (await readdir(join(runPath, entry))).includes(INDEX)) steps.push(Number(step));
  }
  return steps;
}

/** Loads what this rank keeps of trained parameters and its part of the optimizer state, whatever number of ranks wrote them. */
export async function readSlices(path: string, train: TrainStep): Promise<CheckpointIndex> {
  const index = await readIndex(path);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of index.files) files.push(await SafetensorsFile.open(join(path, name)));
    const stored = files.map(piecesOf);
    const exchange = new StateExchange(train);
    for (const arrival of planMoves(stored, [exchange.needed])) {
      const { target, elements, missing } = arrival;
      if (missing > 0)
        throw new DataError({
          place: `${path}: ${target.name}`,
          detail: `has ${elements - missing} of ${elements} elements of ${target.kind}; the checkpoint is of another model`,
        });
      exchange.write(target, await read(files, arrival));
    }
    train.updates = index.step;
  } finally {
    await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
  }
  return index;
}

/** A stored part of a parameter's state. */
interface StoredPiece extends StatePiece {
  /** Its name in the file. */
  readonly tensor: string;
}

function piecesOf(file: SafetensorsFile): readonly StoredPiece[] {
  return [...file.tensors.values()].map(({ name: tensor, shape }): StoredPiece => {
    const [, name, offset, cut, kind] = /^(.+?)@(\d+)(?:~([\dx-]+))?\/(\w+)$/.exec(tensor) ?? [];
    const held = cut === undefined ? null : parseCut(cut);
    if (name === undefined || (cut !== undefined && !held))
      throw new DataError({ place: `${file.path}: ${tensor}`, detail: 'is not named parameter@offset~cut/kind' });
    const of = { name, kind: kind as StateKind, cut: held?.cut ?? null, tensorRank: held?.rank ?? 0 };
    return { ...of, tensor, start: Number(offset), length: shape[0] ?? 0 };
  });
}

/** The elements of a needed piece, out of the files that have some of them. */
async function read(files: readonly SafetensorsFile[], { target, moves }: Arrival<StoredPiece>): Promise<Float32Array> {
  const values = new Float32Array(target.length);
  for (const { from, source, stretches } of moves) {
    const first = Math.min(...stretches.map((stretch) => stretch.source));
    const end = Math.max(...stretches.map((stretch) => stretch.source + stretch.length));
    const bytes = await files[from]!.readBytes(source.tensor, 4 * first, 4 * (end - first));
    const floats = new Float32Array(bytes.buffer, bytes.byteOffset, end - first);
    for (const { source: at, target: to, length } of stretches)
      values.set(floats.subarray(at - first, at - first + length), to);
  }
  return values;
}
