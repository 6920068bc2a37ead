// The block `optimizer` of a ds_config: DeepSpeed's names and defaults → settings of the engine.
import { ConfigError } from '../common/index.js';
import type { OptimizerSettings } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';
import type { ChosenPrecision } from './ds-precision.js';

/** What "auto" stands for. */
export interface AutoValues extends ChosenPrecision {
  readonly worldSize: number;
  readonly totalSteps: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradientNorm: number;
  readonly microBatch: number;
  /** Columns of the model's hidden states, once the model is known. */
  readonly hiddenSize?: number;
}

/** A value of the config, or what stands for "auto", null and nothing. */
export const given = <T>(value: T | 'auto' | null | undefined, otherwise: T): T =>
  value === undefined || value === null || value === 'auto' ? otherwise : value;

/** The optimizer, and the learning rate that schedules scale. Throws {@link ConfigError} for what contradicts itself. */
export function resolveOptimizer(
  config: DsConfig,
  auto: AutoValues,
): { readonly optimizer: OptimizerSettings; readonly rate: number } {
  const { type, params } = config.optimizer;
  const common = {
    weightDecay: given(params.weight_decay, auto.weightDecay),
    maxGradientNorm: given(config.gradient_clipping, auto.maxGradientNorm),
  };
  const rate = given(params.lr, auto.learningRate);
  switch (type) {
    case 'AdamW':
    case 'Adam': {
      // DeepSpeed's "Adam" decays apart from the gradient too, unless adam_w_mode says otherwise.
      const isDecayDecoupled = type === 'AdamW' || params.adam_w_mode;
      const adam = adamOf(params, [0.9, 0.999], 1e-8);
      const hasBiasCorrection = params.bias_correction;
      return { optimizer: { kind: 'adamw', ...common, ...adam, isDecayDecoupled, hasBiasCorrection }, rate };
    }
    case 'Lion': {
      const [beta1, beta2] = given(params.betas, [0.9, 0.99]);
      return { optimizer: { kind: 'lion', ...common, beta1, beta2 }, rate };
    }
    case 'Adagrad': {
      const { eps, lr_decay: lrDecay, initial_accumulator_value: initialSum } = params;
      return { optimizer: { kind: 'adagrad', ...common, eps: given(eps, 1e-10), lrDecay, initialSum }, rate };
    }
    case 'SGD': {
      const { momentum, dampening, nesterov: isNesterov } = params;
      if (isNesterov && (momentum === 0 || dampening !== 0))
        throw new ConfigError(
          'deepspeed.optimizer.params.nesterov',
          'a momentum above 0 and no dampening',
          { momentum, dampening },
          'Nesterov momentum needs both',
        );
      return { optimizer: { kind: 'sgd', ...common, momentum, dampening, isNesterov }, rate };
    }
    case 'Muon': {
      const muonRate = rateOf(params.muon_lr ?? params.lr, auto, 0.02);
      const adamRate = rateOf(params.adam_lr ?? params.lr, auto, 3e-4);
      // A schedule that names its own highest rate gives it to both parts.
      const rateRatio = hasRateOfItsOwn(config) ? 1 : adamRate / muonRate;
      const adam = { ...adamOf(params, [0.9, 0.95], 1e-10), rateRatio };
      const { momentum } = params;
      const optimizer = { kind: 'muon', ...common, momentum, isNesterov: true, iterations: 5, adam } as const;
      return { optimizer, rate: muonRate };
    }
  }
}

interface AdamParams {
  readonly betas: readonly [number, number] | 'auto';
  readonly eps: number | 'auto';
}

function adamOf(params: AdamParams, betas: readonly [number, number], eps: number) {
  const [beta1, beta2] = given(params.betas, betas);
  return { beta1, beta2, eps: given(params.eps, eps) };
}

/** Muon's rates have defaults of their own; "auto" is the recipe's. */
function rateOf(value: number | 'auto' | undefined, auto: AutoValues, otherwise: number): number {
  return value === 'auto' ? auto.learningRate : (value ?? otherwise);
}

function hasRateOfItsOwn({ scheduler }: DsConfig): boolean {
  return (
    (scheduler?.type === 'WarmupLR' || scheduler?.type === 'WarmupDecayLR') &&
    typeof scheduler.params.warmup_max_lr === 'number'
  );
}
