// Elementwise activations, plain and gated, and their gradients.
#pragma once
#include <cstdint>

namespace raylite {

/// The numbers of ARCHITECTURE.md. gelu_tanh: 0.5x(1+tanh(sqrt(2/pi)(x+0.044715x^3))); gelu_erf: 0.5x(1+erf(x/sqrt 2)); silu: x*sigmoid(x);
/// log_sigmoid: log sigmoid(x).
enum class Activation : int { kNone = 0, kGeluTanh = 1, kGeluErf = 2, kRelu = 3, kSilu = 4, kTanh = 5, kSigmoid = 6, kLogSigmoid = 7 };
constexpr int kActivationLast = 7;

/// y[n] = act(x[n]); y may be x.
template <class T>
struct ActivationArguments {
  const T* x;
  T* y;
  std::int64_t n;
  Activation kind;
};

/// dx[n] = dy[n] * act'(x[n]); dx may be dy.
template <class T>
struct ActivationBackwardArguments {
  const T* dy;
  const T* x;
  T* dx;
  std::int64_t n;
  Activation kind;
};

/// y[n] = act(gate[n]) * up[n].
template <class T>
struct GatedActivationArguments {
  const T* gate;
  const T* up;
  T* y;
  std::int64_t n;
  Activation kind;
};

/// dgate = dy * up * act'(gate), dup = dy * act(gate). dgate may be gate or dy, dup may be up.
template <class T>
struct GatedActivationBackwardArguments {
  const T* dy;
  const T* gate;
  const T* up;
  T* dgate;
  T* dup;
  std::int64_t n;
  Activation kind;
};

}  // namespace raylite
