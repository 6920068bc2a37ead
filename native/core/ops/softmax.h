// Softmax of rows, and its gradient. Attention and the loss have theirs built in. N rows, D width.
#pragma once
#include <cstdint>

namespace raylite {

/// y[N,D] = exp(x - log sum exp(x)) per row; y may be x.
template <class T>
struct SoftmaxArguments {
  const T* x;
  T* y;
  std::int64_t n, d;
};

/// dx[N,D] = y * (dy - sum(dy * y)) per row; dx may be dy.
template <class T>
struct SoftmaxBackwardArguments {
  const T* dy;
  const T* y;
  T* dx;
  std::int64_t n, d;
};

}  // namespace raylite
