// Layer normalisation, with the residual addition before it fused in, and its gradient. Biased variance (arXiv:1607.06450).
// N rows, D width.
#pragma once
#include <cstdint>

namespace raylite {

/// sum = x + r (when r is given; sum may be x), y = (sum - mean) * rstd * gain + bias. Without r, sum is null.
template <class T>
struct LayerNormArguments {
  const T* x;
  const T* r;
  const T* gain;
  const T* bias;
  T* sum;
  T* y;
  float* mean;
  float* rstd;
  std::int64_t n, d;
  float eps;
};

/// dx = gradient by x (+ addend; dx may be addend or dy), dgain and dbias (+)= theirs. Overwrites them when beta[0] is 0.
template <class T>
struct LayerNormBackwardArguments {
  const T* dy;
  const T* x;
  const T* gain;
  const float* mean;
  const float* rstd;
  const T* addend;
  const float* beta;
  T* dx;
  float* dgain;
  float* dbias;
  std::int64_t n, d;
  bool accumulate;
};

}  // namespace raylite
