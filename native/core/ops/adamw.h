// One optimiser step in place: AdamW (arXiv:1711.05101, Alg. 2, decay scaled by lr as torch does), or Adam with L2.
#pragma once
#include "core/ops/step.h"

namespace raylite {

/// g' = g * factor[0]; m, v, p are updated from g'. step[0] counts from 1.
/// adamw_mode: p *= 1 - lr*weight_decay before the update; else g' += weight_decay * p.
template <class F>
struct AdamWArguments : MomentumStepArguments<F> {
  typename F::S* m;
  typename F::S* v;
  const float* step;
  double beta2, eps;
  bool adamw_mode, bias_correction;
};

}  // namespace raylite
