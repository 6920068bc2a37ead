/**
 * Decoding and sampling.
 * @module raylite/infer
 */
export { BeamSearch, bestTokens, type Candidate, type Continuation, type Hypothesis } from './beam-search.js';
export type { Logits } from './decoder.js';
export {
  type GenerateOptions,
  type Progress,
  type Sampling,
  type SamplingOptions,
  samplingSettings,
} from './generation-options.js';
export { type GenerationEvent, Generator, type GeneratorSettings } from './generator.js';
export { generationSizes, HybridEngine, type HybridMemory, type HybridSettings } from './hybrid-engine.js';
export { type GenerationMemory, type GenerationSizes, generationMemory } from './hybrid-memory.js';
export type { Generation, TokenChoice } from './jobs.js';
export * from './logit-filters.js';
export { chooseToken, type History } from './sampling.js';
export {
  type OpenOptions,
  type TextEvent,
  type TextGeneration,
  TextGenerator,
  type TextOptions,
} from './text-generator.js';
export { type StopOptions, TextStream } from './text-stream.js';
export { type DrawCounter, uniform } from './uniform.js';
