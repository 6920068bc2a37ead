// B is taken in panels of kDepth by kWidth, small enough for the first-level cache, and each is multiplied with all rows of
// A. Where B is [k, n] a panel is read in place, where it is [n, k] it is turned first. What comes next is fetched ahead:
// the rows of a panel lie too far apart for the hardware to guess.
#include "cpu/thin_product.h"

#include "cpu/block_product.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kDepth = 16;
constexpr int kVectors = 2;
constexpr std::int64_t kWidth = kVectors * kLanes;
constexpr std::int64_t kAhead = 192;  // how far ahead rows of B [n, k] are fetched, in floats

/// sums[m, kWidth] (rows kThinColumns apart) += a[m, depth] (rows a_row apart) * panel[depth, kWidth] (rows `stride` apart).
RL_INLINE void multiply(std::int64_t m, std::int64_t depth, const float* a, std::int64_t a_row, const float* panel,
                        std::int64_t stride, float* sums) {
  std::int64_t i = 0;
  for (; i + 8 <= m; i += 8) {
    block_tile<true, 8, kVectors>(depth, a + i * a_row, a_row, 1, panel, stride, sums + i * kThinColumns, kThinColumns);
  }
  for (; i + 4 <= m; i += 4) {
    block_tile<true, 4, kVectors>(depth, a + i * a_row, a_row, 1, panel, stride, sums + i * kThinColumns, kThinColumns);
  }
  for (; i < m; i++) {
    block_tile<true, 1, kVectors>(depth, a + i * a_row, a_row, 1, panel, stride, sums + i * kThinColumns, kThinColumns);
  }
}

#if defined(__AVX512F__)
/// block[q] = element q of kLanes rows `stride` apart.
RL_INLINE void load_turned(const float* rows, std::int64_t stride, __m512 block[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) {
    const float* row = rows + i * stride;
    __builtin_prefetch(row + kAhead);
    block[i] = load(row);
  }
  transpose(block);
}
#endif

/// to[q * kWidth + j] = element q of the j-th of `columns` rows `stride` apart.
RL_INLINE void turn(const float* rows, std::int64_t stride, std::int64_t columns, std::int64_t depth, float* to) {
#if defined(__AVX512F__)
  if (depth == kDepth && columns == kWidth) {
    for (std::int64_t j = 0; j < kWidth; j += kLanes) {
      __m512 block[16];
      load_turned(rows + j * stride, stride, block);
#pragma GCC unroll 16
      for (int q = 0; q < 16; q++) store(to + q * kWidth + j, block[q]);
    }
    return;
  }
#endif
  for (std::int64_t q = 0; q < depth; q++) {
    for (std::int64_t j = 0; j < kWidth; j++) to[q * kWidth + j] = j < columns ? rows[j * stride + q] : 0.0f;
  }
}

/// Of one row of A: the panel stays in registers. Returns how many columns are done; the last few are left.
std::int64_t sum_turned(const Gemm& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
#if defined(__AVX512F__)
  if (g.m > 1 || depth % kDepth != 0) return 0;
  const std::int64_t whole = columns / kWidth * kWidth;
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    Floats sum{};
    for (std::int64_t p = 0; p < depth; p += kDepth) {
      __m512 block[16];
      load_turned(b + j * g.b_col + p, g.b_col, block);
#pragma GCC unroll 16
      for (int q = 0; q < 16; q++) sum = fma(broadcast(a[p + q]), block[q], sum);
    }
    store(sums + j, sum);
  }
  return whole;
#else
  return 0;
#endif
}

/// The sums over one slice of depth.
void sum_transposed(const Gemm& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
  alignas(64) float panel[kDepth * kWidth];
  for (std::int64_t j = sum_turned(g, a, b, depth, columns, sums); j < columns; j += kWidth) {
    for (std::int64_t p = 0; p < depth; p += kDepth) {
      const std::int64_t count = min_of(kDepth, depth - p);
      turn(b + j * g.b_col + p, g.b_col, min_of(kWidth, columns - j), count, panel);
      multiply(g.m, count, a + p, g.a_row, panel, kWidth, sums + j);
    }
  }
}

void sum_plain(const Gemm& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
  alignas(64) float edge[kDepth * kWidth];
  for (std::int64_t p = 0; p < depth; p += kDepth) {
    const std::int64_t count = min_of(kDepth, depth - p);
    for (std::int64_t j = 0; j < columns; j += kWidth) {
      const float* panel = b + p * g.b_row + j;
      if (j + kWidth <= columns) {
#pragma GCC unroll 2
        for (std::int64_t q = 0; q < kDepth; q++) {
          for (int v = 0; v < kVectors; v++) __builtin_prefetch(panel + (kDepth + q) * g.b_row + v * kLanes);
        }
        multiply(g.m, count, a + p, g.a_row, panel, g.b_row, sums + j);
        continue;
      }
      for (std::int64_t q = 0; q < count; q++) {
        for (std::int64_t i = 0; i < kWidth; i++) edge[q * kWidth + i] = j + i < columns ? panel[q * g.b_row + i] : 0.0f;
      }
      multiply(g.m, count, a + p, g.a_row, edge, kWidth, sums + j);
    }
  }
}

}  // namespace

void thin_product(const Gemm& g, std::int64_t begin, std::int64_t count) {
  alignas(64) float sums[kThinRows * kThinColumns];
  const Depths size = cut_depth(g.k);
  for (std::int64_t block = 0; block < g.k; block += size.block) {
    const std::int64_t block_end = min_of(block + size.block, g.k);
    for (std::int64_t p = block; p < block_end; p += size.slice) {
      const std::int64_t depth = min_of(size.slice, block_end - p);
      const float* b = g.b + p * g.b_row + begin * g.b_col;
      for (std::int64_t i = 0; i < g.m; i++) __builtin_memset(sums + i * kThinColumns, 0, kThinColumns * sizeof(float));
      if (g.b_row == 1) {
        sum_transposed(g, g.a + p, b, depth, count, sums);
      } else {
        sum_plain(g, g.a + p, b, depth, count, sums);
      }
      const bool adds = g.accumulate || p > 0;
      for (std::int64_t i = 0; i < g.m; i++) {
        float* to = g.c + i * g.ldc + begin;
        each_vector(count, [&](std::int64_t j, int n) {
          const Floats sum = load_n(sums + i * kThinColumns + j, n);
          store_n(to + j, adds ? load_n(to + j, n) + sum : sum, n);
        });
      }
    }
  }
}

}  // namespace raylite::RL_ISA
