// The door of models/: Hugging Face configurations and checkpoints as models of the engine.
export { modelFromConfig } from './families.js';
export type { Family, Model } from './model.js';
