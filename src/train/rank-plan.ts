// What a rank is to build, made by the driver, and what the engine compiles of it. Pure.
import type {
  Dropout,
  LossOptions,
  Mesh,
  Offload,
  PipelineSettings,
  Recompute,
  TrainingSettings,
  ZeroStage,
  ZeroTuning,
} from '../engine/index.js';
import type { HybridSettings } from '../infer/index.js';
import type { Precision } from './ds-precision.js';
import type { Schedule } from './schedule.js';
import { type TrainedModelPlan, trainedModel } from './trained-model.js';

/** What a rank builds; equal on all ranks but for `rank`. */
export interface RankPlan {
  readonly rank: number;
  readonly mesh: Mesh;
  readonly threads: number;
  /** By estimate: memory of its device, and of the host beside. */
  readonly memory: { readonly deviceBytes: number; readonly hostBytes: number };
  /** config.json of the model. */
  readonly config: Readonly<Record<string, unknown>>;
  /** adapter_config.json of what is trained on the frozen model, or null. */
  readonly adapter: Readonly<Record<string, unknown>> | null;
  readonly quantization: TrainedModelPlan['quantization'];
  readonly rows: number;
  readonly zeroStage: ZeroStage;
  readonly zeroTuning: ZeroTuning;
  readonly offload: Offload;
  readonly sequenceParallelNorms: boolean;
  /** Whether it is measured between two steps. */
  readonly hasEvaluation: boolean;
  readonly optimizer: TrainingSettings['optimizer'];
  readonly schedule: Schedule;
  readonly precision: Precision;
  readonly loss: LossOptions;
  /** What is dropped, and the seed of the masks. */
  readonly dropout: Dropout;
  readonly recompute: Recompute;
  readonly pipeline: PipelineSettings;
  /** How it generates between two steps. */
  readonly hybrid: Omit<HybridSettings, 'model'>;
  readonly seed: number;
  /** Where first values come from: a Hugging Face folder, or the seed. */
  readonly start:
    | { readonly kind: 'folder'; readonly path: string; readonly freshHeads: number | null }
    | { readonly kind: 'seed'; readonly seed: number };
}

/** What a rank compiles. */
export function settingsOf(plan: RankPlan): TrainingSettings {
  const { rank, mesh, zeroStage, zeroTuning: tuning, precision } = plan;
  const { rows, optimizer, loss, dropout, recompute, pipeline, offload, sequenceParallelNorms, hasEvaluation } = plan;
  const strategy = { zeroStage, mesh, rank, tuning };
  return {
    model: trainedModel(plan),
    rows,
    strategy,
    optimizer,
    ...precision,
    loss,
    dropout,
    recompute,
    pipeline,
    offload,
    sequenceParallelNorms,
    hasEvaluation,
  };
}
