// Products of small blocks that are already in the first-level cache: no packing, sums in registers. Operands are floats,
// or pairs of bf16 that follow each other in depth (cpu/pack.h); depth counts words of either.
#pragma once
#include "cpu/pack.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

/// sum + the word *a times each of the words b.
RL_INLINE Floats add_words(Floats sum, const float* a, Floats b) { return fma(broadcast(*a), b, sum); }
RL_INLINE Floats load_words(const float* p) { return load(p); }
#if defined(__AVX512F__)
// As assembly: an intrinsic would have to be inlined into functions that need AVX512_BF16 as a whole.
RL_INLINE Floats add_words(Floats sum, const Pair* a, Floats b) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*a));
  return sum;
}
RL_INLINE Floats load_words(const Pair* p) { return _mm512_loadu_ps(p); }
#endif

template <bool kAccumulate, int kRows, int kVectors, class Word>
RL_INLINE void block_tile(std::int64_t depth, const Word* a, std::int64_t a_row, std::int64_t a_col, const Word* b,
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
    for (int j = 0; j < kVectors; j++) columns[j] = load_words(b + p * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; j++) sums[i][j] = add_words(sums[i][j], a + i * a_row + p * a_col, columns[j]);
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
template <bool kAccumulate, class Word>
static void block_product(std::int64_t rows, std::int64_t columns, std::int64_t depth, const Word* a, std::int64_t a_row,
                          std::int64_t a_col, const Word* b, std::int64_t ldb, float* c, std::int64_t ldc) {
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
