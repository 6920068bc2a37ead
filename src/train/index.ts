/**
 * The Trainer, its recipes, ds_config and schedules.
 * @module raylite/train
 */
export type { CollectiveProfile, KindProfile, Limits, StepProfile } from '../engine/index.js';
export type { PipelineMetrics } from './bubble.js';
export { type ClassifyOptions, classify } from './classify.js';
export * from './ds-config.js';
export { type Estimate, estimate } from './estimate.js';
export { type Answer, type Evaluation, type EvaluationOptions, evaluateFolder, summarise } from './evaluate.js';
export type { FeedFacts } from './feed.js';
export type { HeldOutLoss } from './held-out.js';
export type { LoraOptions } from './lora-options.js';
export { type LossScale, type LossScaleSettings, nextLossScale, startLossScale } from './loss-scale.js';
export { type MaskedLmOptions, maskedLm } from './masked-lm.js';
export { type MergeOptions, mergeAdapter } from './merge-adapter.js';
export { modelStateBytes } from './model-states.js';
export { nearest } from './parse.js';
export { type ProfileTextOptions, profileText } from './profile-text.js';
export type { EvaluatedEvent, StepEvent, TrainingEvent } from './progress.js';
export {
  type Figures,
  type QuickstartEvent,
  type QuickstartOptions,
  type QuickstartResult,
  quickstart,
} from './quickstart.js';
export type { LateNews } from './rank-messages.js';
export type { DataChoice, FreshModel, Recipe, RecipeOptions, Scores } from './recipe.js';
export { recipeOf } from './recipes.js';
export type { TrainingResult } from './run-state.js';
export type { Sample } from './samples.js';
export { learningRate, type Schedule } from './schedule.js';
export { type SftOptions, sft } from './sft.js';
export * from './trainer.js';
export type { TrainerOptions } from './trainer-options.js';
