// The norm of all gradients and the factor that clips it.
#pragma once
#include <cstdint>

namespace raylite {

/// s[1] = (s[0] if accumulate) + sum of g[n]^2, summed in double.
struct SumSquaresArguments {
  const float* g;
  float* s;
  std::int64_t n;
  bool accumulate;
};

/// norm[1] = sqrt(s[0]) / loss_scale; factor[1] = min(1, max_norm / (norm + 1e-6)) / loss_scale, 1 in place of the minimum
/// when max_norm is 0 (as torch clip_grad_norm_). loss_scale may be null: 1. A norm that is no finite number gives the factor
/// NaN, by which optimisers know that they must not step.
struct ClipFactorArguments {
  const float* s;
  const float* loss_scale;
  float* norm;
  float* factor;
  float max_norm;
};

}  // namespace raylite
