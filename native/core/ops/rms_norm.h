// Root-mean-square normalisation (arXiv:1910.07467), with the residual addition before it fused in, and its gradient.
// N rows, D width. In plans a row of x may hold several
// rows of the norm one after the other (the heads of q and k): as many as D fits into it.
#pragma once
#include <cstdint>

namespace raylite {

/// sum = x + r (when r is given; sum may be x), y = sum * rstd * gain. Without r, sum is null.
template <class T>
struct RmsNormArguments {
  const T* x;
  const T* r;
  const T* gain;
  T* sum;
  T* y;
  float* rstd;
  std::int64_t n, d;
  float eps;
};

/// dx = gradient by x (+ addend; dx may be addend or dy), dgain (+)= its own. Overwrites it when beta[0] is 0.
template <class T>
struct RmsNormBackwardArguments {
  const T* dy;
  const T* x;
  const T* gain;
  const float* rstd;
  const T* addend;
  const float* beta;
  T* dx;
  float* dgain;
  std::int64_t n, d;
  bool accumulate;
};

}  // namespace raylite
