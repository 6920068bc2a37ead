// exp, erf and the activations on vectors, to about 1e-7 relative. NaN stays NaN.
#pragma once
#include "core/ops/activation.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

/// e^x: 0 below -87.3, largest finite powers above 88.3 (no infinity). Cody-Waite reduction, then a polynomial of
/// degree 6 on [-ln2/2, ln2/2] (coefficients: Cephes expf).
RL_INLINE Floats exp_of(Floats x) {
#if defined(__AVX512F__)
  const Floats clamped = _mm512_min_ps(broadcast(88.3f), x);  // the second where one is not a number
  const Floats n = _mm512_roundscale_ps(clamped * 1.44269504088896341f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const Floats clamped = select(x > 88.3f, broadcast(88.3f), x);
  const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const Floats shifted = clamped * 1.44269504088896341f + magic;
  const Floats n = shifted - magic;
#endif
  Floats r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Floats p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
#if defined(__AVX512F__)
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, broadcast(-87.3f), _CMP_NLT_UQ), p, n);
#else
  const Ints power = (bits(shifted) - bits(magic) + 127) << 23;
  return select(x < -87.3f, broadcast(0), p * floats(power));
#endif
}

/// 2^x: 1 at 0, 0 below -126 (or what is left there), as exp_of in accuracy, for x <= 126. The polynomial interpolates
/// (2^r - 1) / r on [-1/2, 1/2] at Chebyshev's nodes.
RL_INLINE Floats exp2_of(Floats x) {
#if defined(__AVX512F__)
  const Floats n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const Floats magic = broadcast(12582912.0f);  // as in exp_of
  const Floats shifted = select(x < -126.0f, broadcast(-126.0f), x) + magic;
  const Floats n = shifted - magic;
#endif
  const Floats r = x - n;
  Floats p = broadcast(1.5453162942e-04f);
  p = fma(p, r, broadcast(1.3390863365e-03f));
  p = fma(p, r, broadcast(9.6180825573e-03f));
  p = fma(p, r, broadcast(5.5503571142e-02f));
  p = fma(p, r, broadcast(2.4022650761e-01f));
  p = fma(p, r, broadcast(6.9314718803e-01f));
  p = fma(p, r, broadcast(1.0f));
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  const Ints power = (bits(shifted) - bits(magic) + 127) << 23;
  return select(x < -126.0f, broadcast(0), p * floats(power));
#endif
}

/// erf: a rational function of x on [-4, 4], beyond which it is +-1 to single precision (Eigen's coefficients).
RL_INLINE Floats erf_of(Floats value) {
  Floats x = select(value > 4.0f, broadcast(4.0f), value);
  x = select(x < -4.0f, broadcast(-4.0f), x);
  const Floats z = x * x;
  Floats p = broadcast(-2.72614225801306e-10f);
  p = fma(p, z, broadcast(2.77068142495902e-08f));
  p = fma(p, z, broadcast(-2.10102402082508e-06f));
  p = fma(p, z, broadcast(-5.69250639462346e-05f));
  p = fma(p, z, broadcast(-7.34990630326855e-04f));
  p = fma(p, z, broadcast(-2.95459980854025e-03f));
  p = fma(p, z, broadcast(-1.60960333262415e-02f));
  Floats q = broadcast(-1.45660718464996e-05f);
  q = fma(q, z, broadcast(-2.13374055278905e-04f));
  q = fma(q, z, broadcast(-1.68282697438203e-03f));
  q = fma(q, z, broadcast(-7.37332916720468e-03f));
  q = fma(q, z, broadcast(-1.42647390514189e-02f));
  return x * p / q;
}

RL_INLINE Floats sigmoid_of(Floats x) { return 1.0f / (1.0f + exp_of(-x)); }

/// tanh: an odd polynomial below 0.625 (coefficients: Cephes tanhf), 1 - 2 / (e^2x + 1) beyond, where nothing cancels.
RL_INLINE Floats tanh_of(Floats x) {
  const Floats z = x * x;
  Floats p = broadcast(-5.70498872745e-3f);
  p = fma(p, z, broadcast(2.06390887954e-2f));
  p = fma(p, z, broadcast(-5.37397155531e-2f));
  p = fma(p, z, broadcast(1.33314422036e-1f));
  p = fma(p, z, broadcast(-3.33332819422e-1f));
  const Floats small = fma(p * z, x, x);
  const Floats large = 1.0f - 2.0f / (exp_of(2.0f * x) + 1.0f);
  return select(z < 0.390625f, small, large);
}

/// log(1 + x) for 0 <= x <= 1: 2 artanh(x / (2 + x)) by its series, whose argument is at most 1/3.
RL_INLINE Floats log1p_of(Floats x) {
  const Floats s = x / (2.0f + x);
  const Floats z = s * s;
  Floats p = broadcast(1.0f / 15);
  p = fma(p, z, broadcast(1.0f / 13));
  p = fma(p, z, broadcast(1.0f / 11));
  p = fma(p, z, broadcast(1.0f / 9));
  p = fma(p, z, broadcast(1.0f / 7));
  p = fma(p, z, broadcast(1.0f / 5));
  p = fma(p, z, broadcast(1.0f / 3));
  return 2.0f * fma(p * z, s, s);
}

// gelu_tanh by way of 0.5 (1 + tanh u) = sigmoid(2 u): one exponential, and exact where tanh would cancel.
constexpr float kTwoSqrt2OverPi = 1.5957691216057308f;
constexpr float kGeluCubic = 0.044715f;

template <Activation kKind>
RL_INLINE Floats activate(Floats x) {
  switch (kKind) {
    case Activation::kNone:
      return x;
    case Activation::kGeluTanh:
      return x * sigmoid_of(kTwoSqrt2OverPi * x * (1.0f + kGeluCubic * x * x));
    case Activation::kGeluErf:
      return 0.5f * x * (1.0f + erf_of(x * 0.7071067811865476f));
    case Activation::kRelu:
      return select(x < 0.0f, broadcast(0), x);
    case Activation::kSilu:
      return x * sigmoid_of(x);
    case Activation::kTanh:
      return tanh_of(x);
    case Activation::kSigmoid:
      return sigmoid_of(x);
    case Activation::kLogSigmoid:
      return select(x < 0.0f, x, broadcast(0)) - log1p_of(exp_of(select(x < 0.0f, x, -x)));
  }
  return x;
}

/// The derivative of activate() at x.
template <Activation kKind>
RL_INLINE Floats activate_slope(Floats x) {
  switch (kKind) {
    case Activation::kNone:
      return broadcast(1);
    case Activation::kGeluTanh: {
      const Floats z = x * x;
      const Floats s = sigmoid_of(kTwoSqrt2OverPi * x * (1.0f + kGeluCubic * z));
      return s + x * s * (1.0f - s) * kTwoSqrt2OverPi * (1.0f + 3.0f * kGeluCubic * z);
    }
    case Activation::kGeluErf: {
      const Floats density = exp_of(-0.5f * x * x) * 0.3989422804014327f;
      return 0.5f * (1.0f + erf_of(x * 0.7071067811865476f)) + x * density;
    }
    case Activation::kRelu:
      return select(x > 0.0f, broadcast(1), broadcast(0));
    case Activation::kSilu: {
      const Floats s = sigmoid_of(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::kTanh: {
      const Floats t = tanh_of(x);
      return 1.0f - t * t;
    }
    case Activation::kSigmoid: {
      const Floats s = sigmoid_of(x);
      return s * (1.0f - s);
    }
    case Activation::kLogSigmoid:
      return sigmoid_of(-x);
  }
  return x;
}

/// Calls f with the kind as a compile-time constant.
template <class F>
RL_INLINE void with_kind(Activation kind, F f) {
  switch (kind) {
    case Activation::kNone:
      return f.template operator()<Activation::kNone>();
    case Activation::kGeluTanh:
      return f.template operator()<Activation::kGeluTanh>();
    case Activation::kGeluErf:
      return f.template operator()<Activation::kGeluErf>();
    case Activation::kRelu:
      return f.template operator()<Activation::kRelu>();
    case Activation::kSilu:
      return f.template operator()<Activation::kSilu>();
    case Activation::kTanh:
      return f.template operator()<Activation::kTanh>();
    case Activation::kSigmoid:
      return f.template operator()<Activation::kSigmoid>();
    case Activation::kLogSigmoid:
      return f.template operator()<Activation::kLogSigmoid>();
  }
}

}  // namespace raylite::RL_ISA
