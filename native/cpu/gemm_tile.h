// The inner loop of matrix products: a tile of C in registers, from packed panels (cpu/pack.h). Panels hold floats, or
// pairs of bf16 that the CPU's dot instruction multiplies and adds up in one go.
#pragma once
#include "cpu/pack.h"

namespace raylite::RL_ISA {

// Registers: 32 of 16 lanes hold 8 x 3 sums, 3 of B, the rest for broadcasts; 16 hold 6 x 2 (8 lanes) or 4 x 2 (4 lanes).
#if defined(__AVX512F__)
constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#endif
constexpr std::int64_t kTileColumns = kTileVectors * kLanes;

typedef Floats TileSums[kTileRows][kTileVectors];

RL_INLINE void begin_tile(TileSums& sums, const float* c, std::int64_t ldc) {
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) sums[i][j] = Floats{};
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + kTileColumns - 1, 1);
  }
}

template <bool kAccumulate>
RL_INLINE void end_tile(TileSums& sums, float* c, std::int64_t ldc) {
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) {
      float* at = c + i * ldc + j * kLanes;
      store(at, kAccumulate ? load(at) + sums[i][j] : sums[i][j]);
    }
  }
}

/// c[kTileRows, kTileColumns] (+)= a (packed, depth x kTileRows) * b (packed, depth x kTileColumns).
template <bool kAccumulate>
__attribute__((noinline)) static void tile(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t ldc) {
  TileSums sums;
  begin_tile(sums, c, ldc);
#pragma GCC unroll 2
  for (std::int64_t p = 0; p < depth; p++) {
    Floats columns[kTileVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) columns[j] = load(b + j * kLanes);
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) __builtin_prefetch(b + 8 * kTileColumns + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; i++) {
      const Floats row = broadcast(a[i]);
#pragma GCC unroll 3
      for (int j = 0; j < kTileVectors; j++) sums[i][j] = fma(row, columns[j], sums[i][j]);
    }
    a += kTileRows;
    b += kTileColumns;
  }
  end_tile<kAccumulate>(sums, c, ldc);
}

#if defined(__AVX512F__)
/// sum + the products of one pair of A with kLanes pairs of B.
RL_INLINE __attribute__((target("avx512bf16"))) Floats add_pairs(Floats sum, const Pair* a, __m512i b) {
  int pair;
  __builtin_memcpy(&pair, a, 4);
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)b);
}

/// The same on pairs: `depth` counts them. For CPUs with AVX512_BF16 alone.
template <bool kAccumulate>
__attribute__((noinline, target("avx512bf16"))) static void tile(std::int64_t depth, const Pair* a, const Pair* b, float* c,
                                                                 std::int64_t ldc) {
  TileSums sums;
  begin_tile(sums, c, ldc);
#pragma GCC unroll 2
  for (std::int64_t p = 0; p < depth; p++) {
    __m512i columns[kTileVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) columns[j] = _mm512_loadu_si512(b + j * kLanes);
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) __builtin_prefetch(b + 8 * kTileColumns + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 3
      for (int j = 0; j < kTileVectors; j++) sums[i][j] = add_pairs(sums[i][j], a + i, columns[j]);
    }
    a += kTileRows;
    b += kTileColumns;
  }
  end_tile<kAccumulate>(sums, c, ldc);
}
#endif

/// A tile at the edge of C goes through a full-size copy.
template <class Word>
static void edge_tile(std::int64_t depth, const Word* a, const Word* b, float* c, std::int64_t ldc, std::int64_t rows,
                      std::int64_t columns, bool accumulate) {
  alignas(64) float whole[kTileRows * kTileColumns];
  tile<false>(depth, a, b, whole, kTileColumns);
  for (std::int64_t i = 0; i < rows; i++) {
    each_vector(columns, [&](std::int64_t j, int n) {
      float* at = c + i * ldc + j;
      const Floats sum = load_n(whole + i * kTileColumns + j, n);
      store_n(at, accumulate ? load_n(at, n) + sum : sum, n);
    });
  }
}

}  // namespace raylite::RL_ISA
