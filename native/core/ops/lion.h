// One step of Lion in place (arXiv:2302.06675, Alg. 2): the sign of an interpolated momentum, decay apart from it.
#pragma once
#include "core/ops/step.h"

namespace raylite {

/// g' = g * factor[0]; p = p * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g'); m = beta2 * m + (1 - beta2) * g'.
/// sign(0) is 0.
template <class F>
struct LionArguments : MomentumStepArguments<F> {
  typename F::S* m;
  double beta2;
};

}  // namespace raylite
