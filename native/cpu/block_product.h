// Products of small blocks that are already in the first-level cache: no packing, sums in registers.
#pragma once
#include "cpu/pack.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

template <bool kAccumulate, int kRows, int kVectors>
RL_INLINE void block_tile(std::int64_t depth, const float* a, std::int64_t a_row, std::int64_t a_col, const float* b,
                          std::int64_t ldb, float* c, std::int64_t ldc) {
  Floats sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) sums[i][j] = kAccumulate ? load(c + i * ldc + j * kLanes) : Floats{};
  }
  for (std::int64_t p = 0; p < depth; p++) {
    Floats columns[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) columns[j] = load(b + p * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; i++) {
      const Floats row = broadcast(a[i * a_row + p * a_col]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; j++) sums[i][j] = fma(row, columns[j], sums[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) store(c + i * ldc + j * kLanes, sums[i][j]);
  }
}

#if defined(__AVX512F__)
constexpr int kBlockRows = 4;
constexpr int kBlockVectors = 4;
#else
constexpr int kBlockRows = 4;
constexpr int kBlockVectors = 2;
#endif

/// c[rows, columns] (+)= a b. Element (i, p) of a is a[i * a_row + p * a_col]; b is [depth, columns] with rows ldb apart;
/// `columns` is a multiple of kLanes.
template <bool kAccumulate>
static void block_product(std::int64_t rows, std::int64_t columns, std::int64_t depth, const float* a, std::int64_t a_row,
                          std::int64_t a_col, const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  std::int64_t j = 0;
  for (; j + kBlockVectors * kLanes <= columns; j += kBlockVectors * kLanes) {
    std::int64_t i = 0;
    for (; i + kBlockRows <= rows; i += kBlockRows) {
      block_tile<kAccumulate, kBlockRows, kBlockVectors>(depth, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);
    }
    for (; i < rows; i++) {
      block_tile<kAccumulate, 1, kBlockVectors>(depth, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);
    }
  }
  for (; j < columns; j += kLanes) {
    std::int64_t i = 0;
    for (; i + kBlockRows <= rows; i += kBlockRows) {
      block_tile<kAccumulate, kBlockRows, 1>(depth, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);
    }
    for (; i < rows; i++) {
      block_tile<kAccumulate, 1, 1>(depth, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc);
    }
  }
}

}  // namespace raylite::RL_ISA
