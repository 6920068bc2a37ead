// Dense layers: y = act(x w^T + bias), and the gradients of input and weight.
// N rows, I inputs, O outputs. w is [O,I], or [I,O] when transposed.
#pragma once
#include <cstdint>

#include "core/ops/activation.h"

namespace raylite {

/// y[N,O] = act(x[N,I] w + bias[O]); pre[N,O], where given, receives the value before the activation. Null: absent.
/// Where y is wanted in f32 although T is not (logits), `wide` is y and y is null; there is no `pre` then.
template <class T>
struct LinearArguments {
  const T* x;
  const T* w;
  const T* bias;
  T* y;
  float* wide;
  T* pre;
  std::int64_t n, i, o;
  bool transposed;
  Activation activation;
};

/// dx[N,I] = dy[N,O] w + addend[N,I] (or nullptr; dx may be addend).
template <class T>
struct LinearBackwardInputArguments {
  const T* dy;
  const T* w;
  const T* addend;
  T* dx;
  std::int64_t n, i, o;
  bool transposed;
};

/// dw (+)= dy^T x (x^T dy when transposed), dbias[O] (+)= column sums of dy (or nullptr). Overwrites when beta[0] is 0.
template <class T>
struct LinearBackwardWeightArguments {
  const T* x;
  const T* dy;
  const float* beta;
  float* dw;
  float* dbias;
  std::int64_t n, i, o;
  bool transposed;
  bool accumulate;
};

}  // namespace raylite
