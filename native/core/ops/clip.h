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

/// norm[1] = sqrt(s[0]); factor[1] = min(1, max_norm / (norm + 1e-6)), 1 when max_norm is 0 (as torch clip_grad_norm_).
struct ClipFactorArguments {
  const float* s;
  float* norm;
  float* factor;
  float max_norm;
};

}  // namespace raylite
