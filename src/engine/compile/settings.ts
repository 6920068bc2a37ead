// What the programs of a rank are compiled from.
import type { Dropout } from '../builder.js';
import type { FloatType } from '../graph.js';
import type { StepStorage } from '../layout.js';
import type { AnyModel } from '../model.js';
import type { ObjectiveOptions } from '../objective.js';
import type { Offload } from '../offload.js';
import type { OptimizerSettings } from '../optimizer.js';
import type { Strategy } from '../passes/zero.js';
import type { PartitionMethod } from '../pipeline/partition.js';
import type { Recompute } from './recompute-choice.js';

/** A training job of one rank: all that its programs follow from. */
export interface TrainingSettings extends StepStorage {
  readonly model: AnyModel;
  /** Tokens (or rows of features) of a micro-batch; every micro-batch has exactly this many rows. */
  readonly rows: number;
  readonly strategy: Strategy;
  readonly optimizer: OptimizerSettings;
  readonly loss?: ObjectiveOptions;
  /** What training drops. Default: nothing. */
  readonly dropout?: Dropout;
  /** What the backward makes again in place of keeping it. Default: nothing. */
  readonly recompute?: Recompute;
  /** How parameters and activations are stored; default f32. */
  readonly dtype?: FloatType;
  /** Where the mesh has a pipeline. */
  readonly pipeline?: PipelineSettings;
  /** What lives outside of the device. Default: nothing. */
  readonly offload?: Offload;
  /** Where the mesh has tensor ranks: each does norms, dropout and residual sums of its part of the rows alone. Default false. */
  readonly sequenceParallelNorms?: boolean;
  /** Also compiles what measures the model between two steps. Default false. */
  readonly hasEvaluation?: boolean;
}

/** How the blocks of a model are shared out between stages. */
export interface PipelineSettings {
  /** Micro-batches that a rank runs in each step. */
  readonly micros: number;
  /** Default: parameters. */
  readonly partitionMethod?: PartitionMethod;
}
