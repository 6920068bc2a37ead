/**
 * Hugging Face configurations and checkpoints as models of the engine.
 * @module raylite/models
 */
export {
  type AdaptedModel,
  type Adapter,
  adapterFromConfig,
  adapterParameters,
  initialiseAdapter,
  isAdapted,
  loadAdapter,
  mergedWeights,
  readAdapter,
  saveAdapter,
  savedLabelCount,
  withAdapter,
} from './adapter.js';
export { Block, stack } from './blocks.js';
export { Checkpoint, type CheckpointOptions, countParameters, readModel } from './checkpoint.js';
export { modelFromConfig, supportedFamilies } from './families.js';
export { classifierConfig, withValueHead } from './heads.js';
export { initialise, seededRandom } from './initialise.js';
export type { Family, Model } from './model.js';
export { withNf4 } from './quantised.js';
export { type Rope, type RopeFields, ropeOf, ropeTables } from './rope.js';
export { SafetensorsFile, type StoredTensor } from './safetensors.js';
export { readingOrder, type SaveOptions, saveModel } from './save.js';
export { storedType } from './stored-type.js';
export { inFileOrder, type TensorToWrite, writeSafetensors } from './write-safetensors.js';
