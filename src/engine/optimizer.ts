// What can step parameters: settings of each optimiser, the state it keeps, and which parameters it treats as matrices.
import type { Parameter } from './graph.js';
import type { Bucket } from './layout.js';

interface Common {
  /** Matrices and embeddings decay by this, vectors (gains, biases) do not. */
  readonly weightDecay: number;
  /** Largest norm of the gradient over all parameters; 0 for no clipping. */
  readonly maxGradientNorm: number;
}

/** AdamW (arXiv:1711.05101), or Adam with L2. */
export interface AdamWSettings extends Common {
  readonly kind: 'adamw';
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Decay apart from the gradient (AdamW, the default), or added to it (Adam with L2). */
  readonly isDecayDecoupled?: boolean;
  readonly hasBiasCorrection?: boolean;
  /** `beta1` is told with each step; the one here is not used. */
  readonly isMomentumScheduled?: boolean;
}

/** Lion (arXiv:2302.06675): every element moves by the learning rate, up or down. */
export interface LionSettings extends Common {
  readonly kind: 'lion';
  readonly beta1: number;
  readonly beta2: number;
  /** As AdamW's. */
  readonly isMomentumScheduled?: boolean;
}

/** Adagrad (Duchi et al. 2011), as torch.optim.Adagrad. */
export interface AdagradSettings extends Common {
  readonly kind: 'adagrad';
  readonly eps: number;
  /** Step t uses lr / (1 + (t - 1) * lrDecay). */
  readonly lrDecay: number;
  /** What the sum of squares starts at. */
  readonly initialSum: number;
}

/** As torch.optim.SGD. */
export interface SgdSettings extends Common {
  readonly kind: 'sgd';
  readonly momentum: number;
  readonly dampening: number;
  readonly isNesterov: boolean;
}

/** Muon for the matrices of the blocks, AdamW for embeddings, head and vectors. */
export interface MuonSettings extends Common {
  readonly kind: 'muon';
  readonly momentum: number;
  readonly isNesterov: boolean;
  /** Newton-Schulz iterations. */
  readonly iterations: number;
  /** AdamW's part: its learning rate is `rateRatio` times that of the step. */
  readonly adam: { readonly beta1: number; readonly beta2: number; readonly eps: number; readonly rateRatio: number };
}

/** An optimiser with all that it needs. */
export type OptimizerSettings = AdamWSettings | LionSettings | AdagradSettings | SgdSettings | MuonSettings;

/** Names of the buffers of optimiser state: averages, sums, momentum. One f32 per element each. */
export const STATE_BUFFERS = ['exp_avg', 'exp_avg_sq', 'sum', 'momentum_buffer'] as const;
/** The name of a buffer of optimiser state. */
export type StateBuffer = (typeof STATE_BUFFERS)[number];

/** The state that `optimizer` keeps of the elements of a bucket. */
export function stateBuffers(optimizer: OptimizerSettings, { isOfMatrices }: Bucket): readonly StateBuffer[] {
  switch (optimizer.kind) {
    case 'adamw':
      return ['exp_avg', 'exp_avg_sq'];
    case 'lion':
      return ['exp_avg'];
    case 'adagrad':
      return ['sum'];
    case 'sgd':
      return optimizer.momentum === 0 ? [] : ['momentum_buffer'];
    case 'muon':
      return isOfMatrices ? ['momentum_buffer'] : ['exp_avg', 'exp_avg_sq'];
  }
}

/** Whether each step is told its own `beta1`. */
export function hasScheduledMomentum(optimizer: OptimizerSettings): boolean {
  return (optimizer.kind === 'adamw' || optimizer.kind === 'lion') && optimizer.isMomentumScheduled === true;
}

/** What a buffer of state holds before the first step. */
export function initialState(optimizer: OptimizerSettings): number {
  return optimizer.kind === 'adagrad' ? optimizer.initialSum : 0;
}

/** Whether the optimiser steps this parameter as a matrix, so that one rank must own it whole. */
export function isWholeMatrix(optimizer: OptimizerSettings, { dims, bucket }: Parameter): boolean {
  return optimizer.kind === 'muon' && dims.length === 2 && bucket !== 'embeddings' && bucket !== 'head';
}
