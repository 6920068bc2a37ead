// Writes what was trained as folders that others open. Rank 0 writes; where ranks keep parts of the parameters (ZeRO stage 3,
// pipelines) all of them take part, reading the same parameters in the same order, so that each bucket is whole while its turn is.
import { coordinatesOf, LowRankSum, type TrainStep } from '../engine/index.js';
import {
  adapterParameters,
  inFileOrder,
  isAdapted,
  mergedWeights,
  readingOrder,
  saveAdapter,
  saveModel,
} from '../models/index.js';
import type { NativeDevice } from '../native/index.js';
import type { RankPlan } from './rank-plan.js';
import { trainedModel } from './trained-model.js';

interface TrainedRank {
  readonly train: TrainStep;
  readonly device: NativeDevice;
  readonly plan: RankPlan;
}

/** The model as a Hugging Face folder (weights and configuration), an adapter added in. */
export async function exportModel(path: string, { train, device, plan }: TrainedRank): Promise<void> {
  if (isIdle(train, plan)) return;
  const model = trainedModel(plan);
  using sum = new LowRankSum(device);
  const plain = (name: string) => train.gatherParameter(name);
  const [written, read] = isAdapted(model) ? [model.base, mergedWeights(model, plain, sum)] : [model, plain];
  const { dtype } = plan.precision;
  if (plan.rank === 0) await saveModel(path, written, read, { dtype });
  else for (const name of readingOrder(written, { dtype })) await read(name);
}

/** The adapter that is trained, as a folder that peft opens. */
export async function exportAdapter(path: string, { train, plan }: TrainedRank): Promise<void> {
  const model = trainedModel(plan);
  if (!isAdapted(model) || isIdle(train, plan)) return;
  const read = (name: string) => train.gatherParameter(name);
  if (plan.rank === 0) await saveAdapter(path, model, read);
  else for (const { name } of inFileOrder(adapterParameters(model))) await read(name);
}

/** Whether rank 0 can do without this one: it has no slice of a parameter, and no part of the model that rank 0 is in. */
function isIdle({ parameters }: TrainStep, { mesh, rank }: RankPlan): boolean {
  const { data, sequence } = coordinatesOf(mesh, rank);
  return !parameters.isSliced && (data > 0 || sequence > 0);
}
