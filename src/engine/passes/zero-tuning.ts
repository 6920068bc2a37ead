// How ZeRO trades memory for exchanges, under the names and with the defaults of DeepSpeed. No setting changes results.

export interface ZeroTuning {
  /** `reduce_bucket_size`: most elements that are reduced (and at stages 1 and 2 gathered) as one, unless one parameter has more. */
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
  /** `offload_param`: at stage 3 the slices live in the memory of the host and are gathered from there. */
  readonly hasParametersOnHost: boolean;
}

export const ZERO_TUNING: ZeroTuning = {
  reduceBucketSize: 5e8,
  overlapComm: true,
  prefetchBucketSize: 5e7,
  maxLiveParameters: 1e9,
  maxReuseDistance: 1e9,
  paramPersistenceThreshold: 1e5,
  modelPersistenceThreshold: Number.POSITIVE_INFINITY,
  hasParametersOnHost: false,
};
