// The blocks `fp16` and `bf16` of a ds_config, and what the recipe says beside them: how numbers are stored, how losses are
// scaled. DeepSpeed's names and defaults.
import { ConfigError } from '../common/index.js';
import type { FloatType, StepStorage } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';
import type { LossScaling } from './loss-scale.js';

/** How a run stores parameters, activations and their gradients. */
export interface Precision extends Required<StepStorage> {
  readonly dtype: FloatType;
  /** For f16 alone: its gradients would be too small without. */
  readonly lossScaling: LossScaling | null;
}

/** What the recipe says; nothing said leaves it to the ds_config. */
export interface ChosenPrecision {
  readonly bf16?: boolean | undefined;
  readonly fp16?: boolean | undefined;
}

/** Throws {@link ConfigError} for blocks that contradict each other or the recipe. */
export function resolvePrecision(config: DsConfig, chosen: ChosenPrecision): Precision {
  const isBf16 = isEnabled('bf16', config.bf16?.enabled, chosen.bf16);
  const isF16 = isEnabled('fp16', config.fp16?.enabled, chosen.fp16);
  if (isBf16 && isF16)
    throw new ConfigError('deepspeed.fp16.enabled', 'false beside bf16', true, 'Choose one of the two');
  const { bf16_master_weights_and_grads: isBare = false, bf16_optimizer_states: isHalved = false } = config.bf16 ?? {};
  if (isBf16) return { dtype: 'bf16', lossScaling: null, hasMasters: !isBare, stateDtype: isHalved ? 'bf16' : 'f32' };
  for (const name of ['bf16_master_weights_and_grads', 'bf16_optimizer_states'] as const)
    if (config.bf16?.[name])
      throw new ConfigError(`deepspeed.bf16.${name}`, 'false unless bf16 is enabled', true, 'Set bf16.enabled');
  if (isF16) return { dtype: 'f16', lossScaling: lossScalingOf(config.fp16), hasMasters: true, stateDtype: 'f32' };
  return { dtype: 'f32', lossScaling: null, hasMasters: false, stateDtype: 'f32' };
}

function isEnabled(name: 'bf16' | 'fp16', given: boolean | 'auto' | undefined, chosen: boolean | undefined): boolean {
  if (given === undefined || given === 'auto') return chosen ?? false;
  if (chosen !== undefined && chosen !== given)
    throw new ConfigError(`deepspeed.${name}.enabled`, `"auto" or ${chosen}, as the recipe's ${name}`, given);
  return given;
}

function lossScalingOf(block: DsConfig['fp16']): LossScaling {
  if (block && block.loss_scale > 0) return { kind: 'static', scale: block.loss_scale };
  return {
    kind: 'dynamic',
    initialScalePower: block?.initial_scale_power ?? 16,
    windowSteps: block?.loss_scale_window ?? 1000,
    hysteresis: block?.hysteresis ?? 2,
    minScale: block?.min_loss_scale ?? 1,
    isHysteresisConsecutive: block?.consecutive_hysteresis ?? false,
  };
}
