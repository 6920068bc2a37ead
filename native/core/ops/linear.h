// Dense layers: y = act(x w^T + bias), and the gradients of input and weight.
// N rows, I inputs, O outputs. w is [O,I], or [I,O] when transposed.
#pragma once
#include <cstdint>

#include "core/ops/activation.h"

namespace raylite {

/// y[N,O] = act(x[N,I] w + bias[O]); pre[N,O], where given, receives the value before the activation. Null: absent.
struct LinearArguments {
  const float* x;
  const float* w;
  const float* bias;
  float* y;
  float* pre;
  std::int64_t n, i, o;
  bool transposed;
  Activation activation;
};

/// dx[N,I] = dy[N,O] w + addend[N,I] (or nullptr; dx may be addend).
struct LinearBackwardInputArguments {
  const float* dy;
  const float* w;
  const float* addend;
  float* dx;
  std::int64_t n, i, o;
  bool transposed;
};

/// dw (+)= dy^T x (x^T dy when transposed), dbias[O] (+)= column sums of dy (or nullptr). Overwrites when beta[0] is 0.
struct LinearBackwardWeightArguments {
  const float* x;
  const float* dy;
  const float* beta;
  float* dw;
  float* dbias;
  std::int64_t n, i, o;
  bool transposed;
  bool accumulate;
};

}  // namespace raylite
