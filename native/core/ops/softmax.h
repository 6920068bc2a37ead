// Softmax of rows, and its gradient. Attention and the loss have theirs built in. N rows, D width.
#pragma once
#include <cstdint>

namespace raylite {

/// y[N,D] = exp(x - log sum exp(x)) per row; y may be x.
struct SoftmaxArguments {
  const float* x;
  float* y;
  std::int64_t n, d;
};

/// dx[N,D] = y * (dy - sum(dy * y)) per row; dx may be dy.
struct SoftmaxBackwardArguments {
  const float* dy;
  const float* y;
  float* dx;
  std::int64_t n, d;
};

}  // namespace raylite
