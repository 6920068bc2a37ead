// What generation takes beside a training job, from the plans of both, before anything is allocated.
import {
  type CompiledPipeline,
  type CompiledTraining,
  DTYPE_BYTES,
  type Layout,
  layoutOf,
  type Mesh,
  parameterBuckets,
  type TensorShare,
  tensorShare,
} from '../engine/index.js';
import { isAdapted, type Model } from '../models/index.js';
import { decodeMemory } from './decoder.js';

/** What is known of a training job, and how its ranks share decoding. */
export interface TrainingShape extends Pick<CompiledTraining | CompiledPipeline, 'kind' | 'layout'> {
  readonly mesh: Mesh;
}

/** How much is decoded at once. */
export interface GenerationSizes {
  readonly slots: number;
  /** Tokens of a sequence, prompt and continuation. */
  readonly positions: number;
  readonly prefillRows: number;
}

/** Bytes that generation takes. */
export interface GenerationMemory {
  /** Gathered or merged weights; 0 where training's are read. */
  readonly weightBytes: number;
  /** Keys and values. */
  readonly cacheBytes: number;
  /** Inputs, results, activations of the decoding programs. */
  readonly programBytes: number;
  readonly totalBytes: number;
}

/** What decoding needs the weights of: the model, or the base that an adapter is added into. */
export function decodedModel(model: Model): Model {
  return isAdapted(model) ? model.base : model;
}

/** Whether a rank cannot decode over the memory that it trains: it holds other parts than it decodes, or an adapter beside its base. */
export function needsOwnWeights({ kind, layout, mesh }: TrainingShape, model: Model): boolean {
  const isSliced = parameterBuckets(layout).some((bucket) => bucket.isSliced);
  return isAdapted(model) || isSliced || mesh.tensor !== mesh.generation || kind === 'pipeline';
}

/** What a rank decodes of the model, beside those of its group; undefined: all of it. */
export function decodeShare(mesh: Mesh, rank: number): TensorShare | undefined {
  return mesh.generation === 1 ? undefined : tensorShare(mesh, rank, 'generation');
}

/** Of the weights that decoding reads. */
export function decodedLayout(training: TrainingShape, model: Model): Layout {
  const { layout } = training;
  const { generation } = training.mesh;
  return needsOwnWeights(training, model) ? layoutOf(decodedModel(model), layout.dtype, generation) : layout;
}

/** Bytes on one rank's device, by plan: the cache and the programs of generation, and weights beside those that are trained. */
export function generationMemory(training: TrainingShape, model: Model, sizes: GenerationSizes): GenerationMemory {
  const layout = decodedLayout(training, model);
  const share = decodeShare(training.mesh, 0);
  const settings = { model: decodedModel(model), ...sizes, cacheBytes: null, ...(share && { share }) };
  const { cacheBytes, programBytes } = decodeMemory(settings, layout);
  const weightBytes = needsOwnWeights(training, model) ? layout.parameterElements * DTYPE_BYTES[layout.dtype] : 0;
  return { weightBytes, cacheBytes, programBytes, totalBytes: weightBytes + cacheBytes + programBytes };
}
