/**
 * A training step as data: build a graph (models do), compile it to plans, run them on a device.
 * @module raylite/engine
 */
export { differentiate } from './autodiff.js';
export {
  type AttentionShape,
  type Dropout,
  type EmbeddingOptions,
  GraphBuilder,
  type Head,
  type HeadView,
  type LossOptions,
  type ParameterOptions,
} from './builder.js';
export {
  compileDecode,
  compileForward,
  type DecodeSettings,
  type ForwardSettings,
  layoutOf,
  logitColumns,
  parameterGraph,
} from './compile/inference.js';
export { type CompiledPart, type CompiledPipeline, compilePipeline } from './compile/pipeline.js';
export { lossGraph, shelve } from './compile/rank-forward.js';
export type { Recompute } from './compile/recompute-choice.js';
export type { PipelineSettings, TrainingSettings } from './compile/settings.js';
export { compileLargest, compileStep, estimateTraining } from './compile/step.js';
export {
  type CompiledStep,
  type CompiledTraining,
  compileTraining,
  FUSIONS,
  type Fusion,
  type MemoryFigures,
  trainingPasses,
} from './compile/training.js';
export type { Batch, FeatureBatch, LossInputs, TokenBatch } from './device/batch.js';
export { DeviceBuffers, placeOf } from './device/buffers.js';
export { type Communicators, communicatorTable } from './device/communicators.js';
export { createDevice, type DeviceOptions } from './device/create-device.js';
export { exchangeBytesOf } from './device/exchange-bytes.js';
export type { ExchangeDifference } from './device/exchange-check.js';
export { Forward, type ForwardResult } from './device/forward.js';
export { type LowRankChange, LowRankSum } from './device/low-rank-sum.js';
export { OffloadFile } from './device/offload-file.js';
export { openDevice } from './device/open-device.js';
export { ParameterStore, type StoredValues, type WeightTarget } from './device/parameter-store.js';
export type { PipelineTimes } from './device/pipeline-runner.js';
export type { CollectiveProfile, KindProfile, Limits, StepProfile } from './device/profile.js';
export { Program } from './device/program.js';
export { type Incoming, messageOf, type Outgoing, StateExchange } from './device/state-exchange.js';
export { StateMemory } from './device/state-memory.js';
export type {
  MicroOptions,
  MicroResult,
  MicrosOptions,
  MicrosResult,
  UpdateOptions,
  UpdateResult,
} from './device/step-options.js';
export { type Origin, TrainStep, type TrainStepSettings } from './device/train-step.js';
export { workspaceBytesOf } from './device/workspaces.js';
export * from './graph.js';
export { layOut } from './lay-out.js';
export * from './layout.js';
export * from './mesh.js';
export type { AnyModel, Attend, FeatureModel, LanguageModel, ModelOutputs, TokenInputs } from './model.js';
export { narrow } from './narrow.js';
export { dequantiseNf4, type Nf4Settings, nf4Bytes, quantiseNf4 } from './nf4.js';
export type { Objective, ObjectiveOptions } from './objective.js';
export {
  type FileSettings,
  type Offload,
  type OptimizerOffload,
  PARAMETERS_ON_HOST,
  type ParameterOffload,
} from './offload.js';
export {
  ACTIVATIONS,
  type Activation,
  CACHE_BLOCK_TOKENS,
  CHOICE_WORDS,
  type Cost,
  type OpRule,
  opKinds,
  payloadBytes,
  ruleOf,
  type TargetLoss,
} from './ops/index.js';
export * from './optimizer.js';
export { addLora, type LinearLayer, type LoraSettings, linearLayers } from './passes/lora.js';
export { planGathers } from './passes/plan-gathers.js';
export { quantiseWeights } from './passes/quantise-weights.js';
export { type TensorShare, tensorShare } from './passes/tensor-parallel.js';
export {
  layoutFor,
  placeParameters,
  type Strategy,
  updateProgram,
  type ZeroStage,
  zeroGroup,
} from './passes/zero.js';
export { ZERO_TUNING, type ZeroTuning } from './passes/zero-tuning.js';
export { type Neighbour, type Replay, readerOf, replay, writerOf } from './pipeline/messages.js';
export { balance, isPartitionMethod, type PartitionMethod, partition } from './pipeline/partition.js';
export {
  bubbleShare,
  checkShape,
  type Phase,
  type PipelineShape,
  setCount,
  type Turn,
  turnsOf,
} from './pipeline/schedule.js';
export { explain } from './plan/explain.js';
export type { Life } from './plan/memory.js';
export { planMemory } from './plan/memory.js';
export type { Place, PlacedGraph } from './plan/placement.js';
export { type Plan, plan } from './plan/plan.js';
export { type Schedule, schedule } from './plan/schedule.js';
export { dequantise, type Quantised, quantise } from './quantise.js';
export { fillNormal } from './random.js';
export * from './shard.js';
export * from './state-moves.js';
export { widen } from './widen.js';
