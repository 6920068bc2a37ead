// Loads and stores of 16-bit numbers: a load widens to floats, a store rounds to nearest even. Infinities and NaN stay
// what they are, larger numbers than the type holds become infinite. The same names as for floats in cpu/simd.h, so that a
// kernel is written once for every storage type T.
#pragma once
#include <type_traits>

#include "core/storage.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

// Halves: the 16-bit patterns of one vector of floats.
#if defined(__AVX512F__)
typedef __m256i Halves;
RL_INLINE Halves load_halves(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
RL_INLINE void store_halves(void* p, Halves x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
RL_INLINE Halves load_halves_first(const void* p, int n) {
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), p);
}
RL_INLINE void store_halves_first(void* p, Halves x, int n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1), x);
}
#else
#if defined(__AVX2__)
typedef __m128i Halves;
#else
typedef std::uint16_t Halves __attribute__((vector_size(2 * kLanes)));
#endif
RL_INLINE Halves load_halves(const void* p) {
  Halves x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
RL_INLINE void store_halves(void* p, Halves x) { __builtin_memcpy(p, &x, sizeof x); }
RL_INLINE Halves load_halves_first(const void* p, int n) {
  std::uint16_t lanes[kLanes] = {};
  for (int i = 0; i < n; i++) lanes[i] = static_cast<const std::uint16_t*>(p)[i];
  return load_halves(lanes);
}
RL_INLINE void store_halves_first(void* p, Halves x, int n) {
  std::uint16_t lanes[kLanes];
  store_halves(lanes, x);
  for (int i = 0; i < n; i++) static_cast<std::uint16_t*>(p)[i] = lanes[i];
}
#endif

#if defined(__AVX512F__)
// For permutations of halves: where the upper halves of 16 lanes of 32 bits are, and to which of them each of 16 halves goes.
RL_INLINE __m512i upper_indices() {
  Ints pairs{};
  for (int i = 0; i < 8; i++) pairs[i] = (4 * i + 3) << 16 | (4 * i + 1);
  return reinterpret_cast<__m512i>(pairs);
}
RL_INLINE __m512i lane_indices() {
  Ints pairs{};
  for (int i = 0; i < 16; i++) pairs[i] = i << 16;
  return reinterpret_cast<__m512i>(pairs);
}
#endif

/// The upper halves of 32-bit lanes.
RL_INLINE Halves upper_halves(Ints x) {
#if defined(__AVX512F__)
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper_indices(), reinterpret_cast<__m512i>(x)));
#elif defined(__AVX2__)
  const __m256i shifted = _mm256_srli_epi32(reinterpret_cast<__m256i>(x), 16);
  const __m256i packed = _mm256_packus_epi32(shifted, shifted);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
  return __builtin_convertvector((x >> 16) & 0xffff, Halves);
#endif
}

#if !defined(__AVX2__)
/// One lane of binary16 without the CPU's help.
RL_INLINE float widen_lane(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t rest = half & 0x7fff;
  std::uint32_t wide;
  if (rest > 0x7c00) {
    wide = 0x7fc00000 | (rest & 0x3ff) << 13;  // NaN, quiet
  } else if (rest == 0x7c00) {
    wide = 0x7f800000;
  } else if (rest >= 0x400) {
    wide = (rest << 13) + (112u << 23);
  } else {
    const float subnormal = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24
    __builtin_memcpy(&wide, &subnormal, 4);
  }
  wide |= sign;
  float x;
  __builtin_memcpy(&x, &wide, 4);
  return x;
}
RL_INLINE std::uint16_t narrow_lane(float x) {
  std::uint32_t wide;
  __builtin_memcpy(&wide, &x, 4);
  const std::uint32_t sign = (wide >> 16) & 0x8000;
  wide &= 0x7fffffff;
  std::uint32_t rest;
  if (wide > 0x7f800000) {
    rest = 0x7e00 | ((wide >> 13) & 0x3ff);
  } else if (wide >= 0x477ff000) {
    rest = 0x7c00;  // 65520 and more round to infinity
  } else if (wide < 0x38800000) {
    // Below 2^-14. Beside 0.5 a float has steps of 2^-24, those of a subnormal: the sum rounds as wanted.
    float magnitude;
    __builtin_memcpy(&magnitude, &wide, 4);
    const float sum = magnitude + 0.5f;
    std::uint32_t steps;
    __builtin_memcpy(&steps, &sum, 4);
    rest = steps - 0x3f000000;
  } else {
    rest = (wide + 0xfff + ((wide >> 13) & 1) - (112u << 23)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | rest);
}
#endif

template <class T>
RL_INLINE Floats widen(Halves x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
#if defined(__AVX512F__)
    return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, lane_indices(), _mm512_castsi256_si512(x)));
#elif defined(__AVX2__)
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
#else
    return floats(__builtin_convertvector(x, Ints) << 16);
#endif
  } else {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(x);
#elif defined(__AVX2__)
    return _mm256_cvtph_ps(x);
#else
    Floats wide;
    for (int i = 0; i < kLanes; i++) wide[i] = widen_lane(x[i]);
    return wide;
#endif
  }
}

template <class T>
RL_INLINE Halves narrow(Floats x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const Ints wide = bits(x);
    const Ints rounded = wide + (0x7fff + ((wide >> 16) & 1));
#if defined(__AVX512F__)
    const __m512i all = reinterpret_cast<__m512i>(rounded);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_set1_epi32(0x400000);
    return upper_halves(reinterpret_cast<Ints>(_mm512_mask_or_epi32(all, is_nan, reinterpret_cast<__m512i>(wide), quiet)));
#else
    return upper_halves(select_bits(x != x, wide | 0x400000, rounded));
#endif
  } else {
#if defined(__AVX512F__)
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    Halves half;
    for (int i = 0; i < kLanes; i++) half[i] = narrow_lane(x[i]);
    return half;
#endif
  }
}

#define RL_STORAGE(T)                                                                           \
  RL_INLINE Floats load(const T* p) { return widen<T>(load_halves(p)); }                        \
  RL_INLINE void store(T* p, Floats x) { store_halves(p, narrow<T>(x)); }                       \
  RL_INLINE Floats load_first(const T* p, int n) { return widen<T>(load_halves_first(p, n)); }  \
  RL_INLINE void store_first(T* p, Floats x, int n) { store_halves_first(p, narrow<T>(x), n); } \
  RL_INLINE Floats load_n(const T* p, int n) { return n == kLanes ? load(p) : load_first(p, n); } \
  RL_INLINE void store_n(T* p, Floats x, int n) {                                               \
    if (n == kLanes) {                                                                          \
      store(p, x);                                                                              \
    } else {                                                                                    \
      store_first(p, x, n);                                                                     \
    }                                                                                           \
  }
RL_STORAGE(BFloat16)
RL_STORAGE(Float16)
#undef RL_STORAGE

// A number by itself, where a vector does not pay.
RL_INLINE float load_one(const float* p) { return *p; }
RL_INLINE float load_one(const BFloat16* p) {
  const std::uint32_t wide = static_cast<std::uint32_t>(p->bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, 4);
  return value;
}
RL_INLINE float load_one(const Float16* p) {
#if defined(__AVX2__)
  return _cvtsh_ss(p->bits);
#else
  return widen_lane(p->bits);
#endif
}
template <class T>
RL_INLINE void store_one(T* p, float x) {
  store_first(p, broadcast(x), 1);
}

/// The values that a tensor of T would give back for x.
template <class T>
RL_INLINE Floats rounded_to(Floats x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return widen<T>(narrow<T>(x));
  }
}

}  // namespace raylite::RL_ISA
