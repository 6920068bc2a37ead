// DeepSpeed-Chat's block `hybrid_engine` → how workers generate between two steps.
import { ConfigError } from '../common/index.js';
import type { HybridSettings } from '../infer/index.js';
import type { DsConfig } from './ds-config-schema.js';

export interface ResolvedHybrid {
  readonly settings: Omit<HybridSettings, 'model'>;
  /** Keys that are given and change nothing here, and why. */
  readonly notes: readonly string[];
}

/** `hasSamples`: whether the run generates anything. */
export function resolveHybrid({ hybrid_engine: block }: DsConfig, hasSamples: boolean): ResolvedHybrid {
  if (!block?.enabled) return { settings: {}, notes: [] };
  const notes = hasSamples ? [] : ['hybrid_engine has no effect: nothing is generated without run.samples'];
  if (block.tp_gather_partition_size !== undefined)
    notes.push('hybrid_engine.tp_gather_partition_size has no effect: weights are gathered one after the other');
  const { max_out_tokens, release_inference_cache: releaseInferenceCache, pin_parameters: pinParameters } = block;
  const settings = { releaseInferenceCache, pinParameters };
  return { settings: max_out_tokens === undefined ? settings : { ...settings, maxOutTokens: max_out_tokens }, notes };
}

/** Workers that generate together, each with its part of the heads, out of so many. Throws {@link ConfigError} where they do not divide. */
export function generationSizeOf({ hybrid_engine: block }: DsConfig, workers: number): number {
  const size = block?.enabled ? block.inference_tp_size : 1;
  if (workers % size === 0) return size;
  throw new ConfigError(
    'deepspeed.hybrid_engine.inference_tp_size',
    `a divisor of the ${workers} workers`,
    size,
    'So many of them generate together',
  );
}
