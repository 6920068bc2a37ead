// Training checkpoints: every rank writes the slices it owns, an index written last makes them a checkpoint. Slices are named
// by parameter, offset and how a tensor group cuts it, not by rank, so that any layout can go on from them. A torn write is never an index.
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../common/index.js';
import {
  commonRuns,
  cutText,
  parseCut,
  type Run,
  type StateKind,
  sortedRuns,
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

/** A stored part of a parameter's state. */
interface Piece {
  readonly file: SafetensorsFile;
  readonly tensor: string;
  /** The element that it begins with, of what its rank held. */
  readonly offset: number;
  /** Where its elements lie in the whole, in order. */
  readonly runs: readonly Run[];
}

/** Loads what this rank keeps of trained parameters and its part of the optimizer state, whatever number of ranks wrote them. */
export async function readSlices(path: string, train: TrainStep): Promise<CheckpointIndex> {
  const index = await readIndex(path);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of index.files) files.push(await SafetensorsFile.open(join(path, name)));
    const pieces = piecesOf(files);
    for (const { name } of train.parameters.trained) {
      const part = train.parameters.partOf(name);
      if (!part) continue;
      train.parameters.loadPart(name, await gather(path, pieces, train, name, 'parameter', part.start, part.length));
    }
    for (const slice of train.slices)
      for (const kind of train.stateOf(slice)) {
        if (kind === 'parameter') continue; // loaded above
        const values = await gather(path, pieces, train, slice.name, kind, slice.parameterOffset, slice.length);
        train.writeState(kind, slice, values);
      }
  } finally {
    await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
  }
  return index;
}

/** Stored pieces by "parameter/kind". */
function piecesOf(files: readonly SafetensorsFile[]): ReadonlyMap<string, readonly Piece[]> {
  const pieces = new Map<string, Piece[]>();
  for (const file of files)
    for (const { name, shape } of file.tensors.values()) {
      const parts = /^(.+?)@(\d+)(?:~([\dx-]+))?\/(\w+)$/.exec(name);
      const held = parts?.[3] === undefined ? null : parseCut(parts[3]);
      if (!parts || (parts[3] !== undefined && !held))
        throw new DataError({ place: `${file.path}: ${name}`, detail: 'is not named parameter@offset~cut/kind' });
      const key = `${parts[1]}/${parts[4]}`;
      const [offset, length] = [Number(parts[2]), shape[0] ?? 0];
      const runs = sortedRuns(held?.cut ?? null, held?.rank ?? 0, offset, offset + length);
      const piece = { file, tensor: name, offset, runs };
      const known = pieces.get(key);
      if (known) known.push(piece);
      else pieces.set(key, [piece]);
    }
  return pieces;
}

/** Elements [start, start + length) of what this rank holds of one parameter's state, out of the pieces that have some of them. */
async function gather(
  path: string,
  pieces: ReadonlyMap<string, readonly Piece[]>,
  { parameters, tensorRank }: TrainStep,
  name: string,
  kind: StateKind,
  start: number,
  length: number,
): Promise<Float32Array> {
  const values = new Float32Array(length);
  const wanted = sortedRuns(parameters.cutOf(name), tensorRank, start, start + length);
  const count = wanted.reduce((sum, run) => sum + run.length, 0); // less than `length` where a cut is padded
  let found = 0;
  for (const { file, tensor, offset, runs } of pieces.get(`${name}/${kind}`) ?? []) {
    const common = commonRuns(runs, wanted);
    if (common.length === 0) continue;
    const first = Math.min(...common.map(({ a }) => a));
    const end = Math.max(...common.map(({ a, length }) => a + length));
    const bytes = await file.readBytes(tensor, 4 * (first - offset), 4 * (end - first));
    const floats = new Float32Array(bytes.buffer, bytes.byteOffset, end - first);
    for (const run of common) {
      values.set(floats.subarray(run.a - first, run.a - first + run.length), run.b - start);
      found += run.length;
    }
  }
  if (found !== count)
    throw new DataError({
      place: `${path}: ${name}`,
      detail: `has ${found} of ${count} elements of ${kind}; the checkpoint is of another model`,
    });
  return values;
}
