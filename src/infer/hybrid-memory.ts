// What generation takes beside a training job, from the plans of both, before anything is allocated.
import {
  type CompiledPipeline,
  type CompiledTraining,
  DTYPE_BYTES,
  type Layout,
  layoutOf,
  parameterBuckets,
  parametersOf,
} from '../engine/index.js';
import { isAdapted, type Model } from '../models/index.js';
import { decodeMemory } from './decoder.js';

/** What is known of a training job. */
export type TrainingShape = Pick<CompiledTraining | CompiledPipeline, 'kind' | 'layout'>;

export interface GenerationSizes {
  readonly slots: number;
  /** Tokens of a sequence, prompt and continuation. */
  readonly positions: number;
  readonly prefillRows: number;
}

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

/** Whether a rank cannot decode over the memory that it trains: it holds parts, or an adapter beside its base. */
export function needsOwnWeights({ kind, layout }: TrainingShape, model: Model): boolean {
  const isSliced = parameterBuckets(layout).some((bucket) => bucket.isSliced);
  const isCut = parametersOf(layout).some(({ cut }) => cut !== undefined);
  return isAdapted(model) || isSliced || isCut || kind === 'pipeline';
}

/** Of the weights that decoding reads. */
export function decodedLayout(training: TrainingShape, model: Model): Layout {
  const { layout } = training;
  return needsOwnWeights(training, model) ? layoutOf(decodedModel(model), layout.dtype) : layout;
}

export function generationMemory(training: TrainingShape, model: Model, sizes: GenerationSizes): GenerationMemory {
  const layout = decodedLayout(training, model);
  const settings = { model: decodedModel(model), ...sizes, cacheBytes: null };
  const { cacheBytes, programBytes } = decodeMemory(settings, layout);
  const weightBytes = needsOwnWeights(training, model) ? layout.parameterElements * DTYPE_BYTES[layout.dtype] : 0;
  return { weightBytes, cacheBytes, programBytes, totalBytes: weightBytes + cacheBytes + programBytes };
}
