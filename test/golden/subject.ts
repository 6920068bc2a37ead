// The model of a folder with its weights: a checkpoint, or an adapter on the checkpoint of a sibling.
import { dirname, join } from 'node:path';
import { LowRankSum } from '#src/engine/index.js';
import {
  adapterParameters,
  Checkpoint,
  loadAdapter,
  type Model,
  mergedWeights,
  readAdapter,
  withAdapter,
} from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { Checks } from './checks.js';
import type { CaseTensors, GoldenFolder } from './folder.js';
import { compareSized } from './ops.js';

export interface Subject extends AsyncDisposable {
  readonly model: Model;
  /** Names of the parameters that are trained. */
  readonly trained: readonly string[];
  /** All parameters, frozen ones too. */
  loadInto(target: { load(name: string, values: Float32Array): void }): Promise<void>;
}

export async function openSubject(folder: GoldenFolder): Promise<Subject | null> {
  if (folder.base !== null) return openAdapted(folder.path, join(dirname(folder.path), folder.base));
  if (folder.modelType === null) return null;
  const checkpoint = await Checkpoint.open(folder.path);
  return {
    model: checkpoint.model,
    trained: [...checkpoint.parameters.keys()],
    loadInto: (target) => checkpoint.loadInto(target),
    [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
  };
}

async function openAdapted(folder: string, base: string): Promise<Subject> {
  const checkpoint = await Checkpoint.open(base);
  const model = withAdapter(checkpoint.model, await readAdapter(folder));
  return {
    model,
    trained: adapterParameters(model).map(({ name }) => name),
    async loadInto(target) {
      await checkpoint.loadInto(target);
      await loadAdapter(folder, model, target);
    },
    [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
  };
}

/** The base weights with the adapter added in. */
export async function compareMerged(folder: GoldenFolder, tensors: CaseTensors, device: NativeDevice): Promise<Checks> {
  const checks = new Checks();
  await using checkpoint = await Checkpoint.open(join(dirname(folder.path), folder.base!));
  const model = withAdapter(checkpoint.model, await readAdapter(folder.path));
  const weights = new Map<string, Float32Array>();
  const target = { load: (name: string, values: Float32Array) => void weights.set(name, values) };
  await checkpoint.loadInto(target);
  await loadAdapter(folder.path, model, target);
  using sum = new LowRankSum(device);
  const merged = mergedWeights(model, (name) => weights.get(name)!, sum);
  for (const name of tensors.names) compareSized(checks, name, await merged(name), await tensors.floats(name));
  return checks;
}
