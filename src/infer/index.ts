// The door of infer/: decoding and sampling.
export { type GenerateOptions, type Generation, Generator, type GeneratorSettings } from './generator.js';
export { checkSampling, chooseToken, type Sampling } from './sampling.js';
