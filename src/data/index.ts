// The door of data/: how files become token batches. Read, template, tokenise, pack.
export * from './chat-template.js';
export * from './tokenizer.js';
export { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
