// Vectors of as many floats as the instruction set holds, for sources that CMake compiles once per instruction set with
// RL_ISA = scalar | avx2 | avx512. Everything lives in namespace raylite::RL_ISA and is inlined: a function compiled for
// one CPU must never be merged by the linker with the same function compiled for another.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef RL_ISA
#error "compiled once per instruction set: see native/CMakeLists.txt"
#endif

#define RL_INLINE static inline __attribute__((always_inline))
#define RL_MEMBER inline __attribute__((always_inline))

namespace raylite::RL_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef float FloatsUnaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

RL_INLINE Floats broadcast(float x) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(x);
#elif defined(__AVX2__)
  return _mm256_set1_ps(x);
#else
  return Floats{x, x, x, x};
#endif
}
RL_INLINE Floats load(const float* p) { return *reinterpret_cast<const FloatsUnaligned*>(p); }
RL_INLINE void store(float* p, Floats x) { *reinterpret_cast<FloatsUnaligned*>(p) = x; }
/// a * b + c, fused where the CPU can (the compiler contracts it).
RL_INLINE Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
RL_INLINE Floats select(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }
RL_INLINE Ints select_bits(Ints mask, Ints yes, Ints no) { return mask ? yes : no; }
RL_INLINE Ints bits(Floats x) { return reinterpret_cast<Ints>(x); }
RL_INLINE Floats floats(Ints x) { return reinterpret_cast<Floats>(x); }
RL_INLINE Floats absolute(Floats x) { return floats(bits(x) & 0x7fffffff); }
/// The larger; b where a is not a number.
RL_INLINE Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
RL_INLINE Floats square_root(Floats x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#else
  for (int i = 0; i < kLanes; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

/// The first n lanes (0 <= n <= kLanes), the others 0; memory beyond is not touched.
RL_INLINE Floats load_first(const float* p, int n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
#else
  Floats x{};
  for (int i = 0; i < n; i++) x[i] = p[i];
  return x;
#endif
}
RL_INLINE void store_first(float* p, Floats x, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), x);
#elif defined(__AVX2__)
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), x);
#else
  for (int i = 0; i < n; i++) p[i] = x[i];
#endif
}

/// x in the first n lanes, `rest` in the others.
RL_INLINE Floats with_rest(Floats x, int n, float rest) {
  Ints lane{};
  for (int i = 0; i < kLanes; i++) lane[i] = i;
  return select(lane < n, x, broadcast(rest));
}

RL_INLINE float sum_lanes(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#else
  float sum = 0;
  for (int i = 0; i < kLanes; i++) sum += x[i];
  return sum;
#endif
}
RL_INLINE float max_lanes(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x);
#else
  float most = x[0];
  for (int i = 1; i < kLanes; i++) most = x[i] > most ? x[i] : most;
  return most;
#endif
}

RL_INLINE std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
RL_INLINE std::int64_t max_of(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Calls f(i, n) for each vector of 0..count-1: n is kLanes, and less for the last. `f` is inlined twice, once with n
/// constant; f reads and writes with load_n / store_n.
template <class F>
RL_INLINE void each_vector(std::int64_t count, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, kLanes);
  if (i < count) f(i, static_cast<int>(count - i));
}
RL_INLINE Floats load_n(const float* p, int n) { return n == kLanes ? load(p) : load_first(p, n); }
RL_INLINE void store_n(float* p, Floats x, int n) {
  if (n == kLanes) {
    store(p, x);
  } else {
    store_first(p, x, n);
  }
}

}  // namespace raylite::RL_ISA
