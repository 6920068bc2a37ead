/**
 * How files become token batches: read, template, tokenise, pack.
 * @module raylite/data
 */
export * from './chat-template.js';
export * from './instructions.js';
export * from './labelled-records.js';
export * from './masked.js';
export type { SourceOptions } from './open-source.js';
export * from './pack.js';
export * from './prompt.js';
export * from './random.js';
export * from './read-records.js';
export { decodeRecord, type InstructionRecord, type Placed, type PlacedRecord } from './records.js';
export * from './tokenise.js';
export * from './tokenise-labelled.js';
export * from './tokenizer.js';
export { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
export * from './train-bpe.js';
