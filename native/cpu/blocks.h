// Blocks of a row: the numbers of one line of the caches, widened to one or two vectors of floats. What rounds to 16 bits goes by
// blocks, since a core stores whole lines alone without reading them first, and converts two vectors as quickly as one.
#pragma once
#include "cpu/storage.h"

namespace raylite::RL_ISA {

/// Vectors of floats in a block of T.
template <class T>
constexpr int kPartsOf = kLanes == 16 && sizeof(T) == 2 ? 2 : 1;

template <int kParts>
struct Block {
  Floats part[kParts];
};

#define RL_BLOCK_OPERATOR(op)                                                      \
  template <int kParts>                                                            \
  RL_INLINE Block<kParts> operator op(const Block<kParts>& a, const Block<kParts>& b) { \
    Block<kParts> c;                                                               \
    for (int k = 0; k < kParts; k++) c.part[k] = a.part[k] op b.part[k];           \
    return c;                                                                      \
  }                                                                                \
  template <int kParts>                                                            \
  RL_INLINE Block<kParts> operator op(const Block<kParts>& a, float b) {           \
    Block<kParts> c;                                                               \
    for (int k = 0; k < kParts; k++) c.part[k] = a.part[k] op b;                   \
    return c;                                                                      \
  }
RL_BLOCK_OPERATOR(+)
RL_BLOCK_OPERATOR(-)
RL_BLOCK_OPERATOR(*)
#undef RL_BLOCK_OPERATOR

/// f of every vector.
template <int kParts, class F>
RL_INLINE Block<kParts> map_block(const Block<kParts>& a, F f) {
  Block<kParts> c;
  for (int k = 0; k < kParts; k++) c.part[k] = f(a.part[k]);
  return c;
}

/// How many of the first n numbers of a block lie in its part k.
RL_INLINE int of_part(int n, int k) {
  const int rest = n - k * kLanes;
  return rest < 0 ? 0 : rest > kLanes ? kLanes : rest;
}

/// x in the first n lanes, `rest` in the others.
template <int kParts>
RL_INLINE Block<kParts> with_rest(const Block<kParts>& x, int n, float rest) {
  if (n == kParts * kLanes) return x;
  Block<kParts> c;
  for (int k = 0; k < kParts; k++) c.part[k] = with_rest(x.part[k], of_part(n, k), rest);
  return c;
}

template <int kParts>
RL_INLINE float sum_block(const Block<kParts>& x) {
  Floats sum = x.part[0];
  for (int k = 1; k < kParts; k++) sum += x.part[k];
  return sum_lanes(sum);
}

/// Calls f(j, n) for each block of 0..count-1: n is the numbers of a block of T, and less for the last.
template <class T, class F>
RL_INLINE void each_block(std::int64_t count, F f) {
  constexpr int kWidth = kPartsOf<T> * kLanes;
  std::int64_t j = 0;
  for (; j + kWidth <= count; j += kWidth) f(j, kWidth);
  if (j < count) f(j, static_cast<int>(count - j));
}

/// The sum over all blocks of 0..count-1 of what f(j, n) gives; four sums are under way at a time.
template <class T, class F>
RL_INLINE float sum_over_blocks(std::int64_t count, F f) {
  constexpr int kWidth = kPartsOf<T> * kLanes;
  Block<kPartsOf<T>> sums[4] = {};
  std::int64_t j = 0;
  for (; j + 4 * kWidth <= count; j += 4 * kWidth) {
    for (int k = 0; k < 4; k++) sums[k] = sums[k] + f(j + k * kWidth, kWidth);
  }
  each_block<T>(count - j, [&](std::int64_t i, int n) { sums[0] = sums[0] + f(j + i, n); });
  return sum_block((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

#if defined(__AVX512F__)
/// The halves of a line as two vectors.
template <class T>
RL_INLINE Block<2> widen_line(__m512i line) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    Ints upper{};
    for (int i = 0; i < 16; i++) upper[i] = (i + 16) << 16;
    return {{_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, lane_indices(), line)),
             _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, reinterpret_cast<__m512i>(upper), line))}};
  } else {
    return {{_mm512_cvtph_ps(_mm512_castsi512_si256(line)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(line, 1))}};
  }
}

RL_INLINE __m512i join_halves(Halves low, Halves high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

/// Whether the CPU rounds to bf16 itself; asked once per kernel.
RL_INLINE bool has_rounding() { return __builtin_cpu_supports("avx512bf16"); }

/// Both vectors rounded. The CPU's own instruction takes numbers below 2^-126 for 0; blocks with such are rounded without it.
template <class T>
RL_INLINE __m512i narrow_line(const Block<2>& x, bool rounds) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    constexpr int kSubnormal = 0x20;
    const auto odd = static_cast<__mmask16>(_mm512_fpclass_ps_mask(x.part[0], kSubnormal) |
                                            _mm512_fpclass_ps_mask(x.part[1], kSubnormal));
    if (__builtin_expect(rounds && odd == 0, 1)) {
      __m512i line;  // as assembly: the file is compiled for CPUs without it
      asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(line) : "v"(x.part[1]), "v"(x.part[0]));
      return line;
    }
  }
  return join_halves(narrow<T>(x.part[0]), narrow<T>(x.part[1]));
}
#else
RL_INLINE bool has_rounding() { return false; }
#endif

/// The first n numbers at p, the others 0.
template <int kParts, class T>
RL_INLINE Block<kParts> load_block(const T* p, int n) {
#if defined(__AVX512F__)
  if constexpr (kParts == 2 && sizeof(T) == 2) {
    if (n == 32) return widen_line<T>(_mm512_loadu_si512(p));
  }
#endif
  Block<kParts> x;
  for (int k = 0; k < kParts; k++) x.part[k] = load_n(p + k * kLanes, n == kParts * kLanes ? kLanes : of_part(n, k));
  return x;
}

template <int kParts>
RL_INLINE void store_block(float* p, const Block<kParts>& x, int n) {
  for (int k = 0; k < kParts; k++) store_n(p + k * kLanes, x.part[k], n == kParts * kLanes ? kLanes : of_part(n, k));
}

/// A block as memory holds it.
template <class T>
struct Rounded {
#if defined(__AVX512F__)
  __m512i value;
#else
  Halves value;
#endif
};
template <>
struct Rounded<float> {
  Block<1> value;
};

template <class T>
RL_INLINE Rounded<T> round_block(const Block<kPartsOf<T>>& x, bool rounds) {
  if constexpr (std::is_same_v<T, float>) {
    return {x};
  } else {
#if defined(__AVX512F__)
    return {narrow_line<T>(x, rounds)};
#else
    return {narrow<T>(x.part[0])};
#endif
  }
}

template <class T>
RL_INLINE Block<kPartsOf<T>> widen_block(const Rounded<T>& x) {
  if constexpr (std::is_same_v<T, float>) {
    return x.value;
  } else {
#if defined(__AVX512F__)
    return widen_line<T>(x.value);
#else
    return {{widen<T>(x.value)}};
#endif
  }
}

template <class T>
RL_INLINE void store_rounded(T* p, const Rounded<T>& x, int n) {
  if constexpr (std::is_same_v<T, float>) {
    store_n(p, x.value.part[0], n);
  } else {
#if defined(__AVX512F__)
    if (n == 32) {
      _mm512_storeu_si512(p, x.value);
    } else {
      _mm512_mask_storeu_epi16(p, static_cast<__mmask32>((1ull << n) - 1), x.value);
    }
#else
    if (n == kLanes) {
      store_halves(p, x.value);
    } else {
      store_halves_first(p, x.value, n);
    }
#endif
  }
}

}  // namespace raylite::RL_ISA
