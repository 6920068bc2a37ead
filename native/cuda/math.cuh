// The activations and their derivatives on floats, by the formulas of core/ops/activation.h. Tolerance beside the CPU: the
// functions of both libraries are within about 2e-7 of the exact ones.
#pragma once
#include "core/ops/activation.h"
#include "cuda/launch.cuh"

namespace raylite::cuda {

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// gelu_tanh by way of 0.5 (1 + tanh u) = sigmoid(2 u), as on the CPU.
constexpr float kTwoSqrt2OverPi = 1.5957691216057308f;
constexpr float kGeluCubic = 0.044715f;

template <Activation kKind>
__device__ inline float activate(float x) {
  if constexpr (kKind == Activation::kGeluTanh) return x * sigmoid(kTwoSqrt2OverPi * x * (1.0f + kGeluCubic * x * x));
  if constexpr (kKind == Activation::kGeluErf) return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
  if constexpr (kKind == Activation::kRelu) return x < 0.0f ? 0.0f : x;
  if constexpr (kKind == Activation::kSilu) return x * sigmoid(x);
  if constexpr (kKind == Activation::kTanh) return tanhf(x);
  if constexpr (kKind == Activation::kSigmoid) return sigmoid(x);
  if constexpr (kKind == Activation::kLogSigmoid) return (x < 0.0f ? x : 0.0f) - log1pf(expf(x < 0.0f ? x : -x));
  return x;
}

/// The derivative of activate() at x.
template <Activation kKind>
__device__ inline float activate_slope(float x) {
  if constexpr (kKind == Activation::kNone) return 1.0f;
  if constexpr (kKind == Activation::kGeluTanh) {
    const float z = x * x;
    const float s = sigmoid(kTwoSqrt2OverPi * x * (1.0f + kGeluCubic * z));
    return s + x * s * (1.0f - s) * kTwoSqrt2OverPi * (1.0f + 3.0f * kGeluCubic * z);
  }
  if constexpr (kKind == Activation::kGeluErf) {
    return 0.5f * (1.0f + erff(x * 0.7071067811865476f)) + x * expf(-0.5f * x * x) * 0.3989422804014327f;
  }
  if constexpr (kKind == Activation::kRelu) return x > 0.0f ? 1.0f : 0.0f;
  if constexpr (kKind == Activation::kSilu) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
  if constexpr (kKind == Activation::kTanh) {
    const float t = tanhf(x);
    return 1.0f - t * t;
  }
  if constexpr (kKind == Activation::kSigmoid) {
    const float s = sigmoid(x);
    return s * (1.0f - s);
  }
  if constexpr (kKind == Activation::kLogSigmoid) return sigmoid(-x);
  return x;
}

// As functions that are handed on.
template <Activation kKind>
struct Activate {
  __device__ float operator()(float x) const { return activate<kKind>(x); }
};
template <Activation kKind>
struct ActivateGradient {
  __device__ float operator()(float dy, float x) const { return dy * activate_slope<kKind>(x); }
};
template <Activation kKind>
struct ActivateGate {
  __device__ float operator()(float gate, float up) const { return activate<kKind>(gate) * up; }
};

template <Activation kKind>
struct KindOf {
  static constexpr Activation value = kKind;
};

/// Calls f with the kind as a constant: f(KindOf<kind>).
template <class F>
void with_kind(Activation kind, F f) {
  switch (kind) {
    case Activation::kNone: return f(KindOf<Activation::kNone>{});
    case Activation::kGeluTanh: return f(KindOf<Activation::kGeluTanh>{});
    case Activation::kGeluErf: return f(KindOf<Activation::kGeluErf>{});
    case Activation::kRelu: return f(KindOf<Activation::kRelu>{});
    case Activation::kSilu: return f(KindOf<Activation::kSilu>{});
    case Activation::kTanh: return f(KindOf<Activation::kTanh>{});
    case Activation::kSigmoid: return f(KindOf<Activation::kSigmoid>{});
    case Activation::kLogSigmoid: return f(KindOf<Activation::kLogSigmoid>{});
  }
}

}  // namespace raylite::cuda
