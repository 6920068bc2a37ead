// The door of infer/: decoding and sampling.
export { type GenerateOptions, type Generation, Generator, type GeneratorSettings } from './generator.js';
export * from './logit-filters.js';
export { checkSampling, chooseToken, type Sampling } from './sampling.js';
