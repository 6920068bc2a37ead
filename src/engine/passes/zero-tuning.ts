// How ZeRO trades memory for exchanges, under the names and with the defaults of DeepSpeed. Only the quantised exchanges change results.
import type { ParameterOffload } from '../offload.js';

/** What ZeRO exchanges at a time and keeps, in elements, after keys of a ds_config. */
export interface ZeroTuning {
  /**
   * `reduce_bucket_size`: most elements that are reduced (and at stages 1 and 2 gathered) as one, unless one parameter has more. Such a
   * one that a model uses twice is reduced once for each use, from stage 2 on.
   */
  readonly reduceBucketSize: number;
  /** `overlap_comm`: exchanges run while something is computed. False: what needs one waits for it, and nothing is fetched ahead. */
  readonly overlapComm: boolean;
  /** `stage3_prefetch_bucket_size`: parameters are gathered ahead of their use until so many elements wait. */
  readonly prefetchBucketSize: number;
  /** `stage3_max_live_parameters`: gathered elements that exist at once, as far as what is computed needs no more. */
  readonly maxLiveParameters: number;
  /** `stage3_max_reuse_distance`: what is used again within so many elements is not released. */
  readonly maxReuseDistance: number;
  /** `stage3_param_persistence_threshold`: a parameter of at most so many elements stays whole. */
  readonly paramPersistenceThreshold: number;
  /** `stage3_model_persistence_threshold`: all that stay whole have at most so many elements. */
  readonly modelPersistenceThreshold: number;
  /** `offload_param`: at stage 3 the slices live in the memory of the host or in a file, and are gathered from there. */
  readonly offloadParam: ParameterOffload | null;
  /** `zero_quantized_weights` (qwZ): parameters are gathered as 8-bit blocks. */
  readonly quantizedWeights: boolean;
  /** `zero_quantized_nontrainable_weights`: the frozen ones are. */
  readonly quantizedNontrainableWeights: boolean;
  /** `zero_quantized_gradients` (qgZ): gradients are exchanged as 4-bit blocks, within machines and then across. */
  readonly quantizedGradients: boolean;
}

/** DeepSpeed's defaults. */
export const ZERO_TUNING: ZeroTuning = {
  reduceBucketSize: 5e8,
  overlapComm: true,
  prefetchBucketSize: 5e7,
  maxLiveParameters: 1e9,
  maxReuseDistance: 1e9,
  paramPersistenceThreshold: 1e5,
  modelPersistenceThreshold: Number.POSITIVE_INFINITY,
  offloadParam: null,
  quantizedWeights: false,
  quantizedNontrainableWeights: false,
  quantizedGradients: false,
};
