// One step of Lion in place (arXiv:2302.06675, Alg. 2): the sign of an interpolated momentum, decay apart from it.
#pragma once
#include <cstdint>

namespace raylite {

/// g' = g * factor[0]; p = p * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g'); m = beta2 * m + (1 - beta2) * g'.
/// sign(0) is 0. Elements from decay_end on do not decay.
/// A factor that is NaN leaves everything as it is.
struct LionArguments {
  float* p;
  float* m;
  const float* g;
  const float* factor;
  const float* lr;
  std::int64_t n, decay_end;
  double beta1, beta2, weight_decay;
};

}  // namespace raylite
