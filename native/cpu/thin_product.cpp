// B is taken in panels of kDepth by kWidth, small enough for the first-level cache, and each is multiplied with all rows of
// A. Floats of a B [k, n] are read in place, those of a B [n, k] are turned first, and 16-bit numbers are packed into words
// as gemm() packs them. What comes next is fetched ahead: the rows of a panel lie too far apart for the hardware to guess.
#include "cpu/thin_product.h"

#include "cpu/block_product.h"
#include "cpu/gemm_blocking.h"
#include "cpu/gemm_finish.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kThinColumns = 256;  // of C at a time
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
template <int kRows>
RL_INLINE __attribute__((target("avx512bf16"))) void multiply_rows(std::int64_t depth, const Pair* a, std::int64_t a_row,
                                                                   const Pair* panel, float* sums) {
  Floats totals[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i++) {
    for (int v = 0; v < kVectors; v++) totals[i][v] = load(sums + i * kThinColumns + v * kLanes);
  }
  for (std::int64_t p = 0; p < depth; p++) {
    __m512i columns[kVectors];
    for (int v = 0; v < kVectors; v++) columns[v] = _mm512_loadu_si512(panel + p * kWidth + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; i++) {
      for (int v = 0; v < kVectors; v++) totals[i][v] = add_pairs(totals[i][v], a + i * a_row + p, columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i++) {
    for (int v = 0; v < kVectors; v++) store(sums + i * kThinColumns + v * kLanes, totals[i][v]);
  }
}

/// The same on pairs: `depth` counts them, rows of the panel are kWidth apart.
__attribute__((noinline, target("avx512bf16"))) void multiply(std::int64_t m, std::int64_t depth, const Pair* a,
                                                              std::int64_t a_row, const Pair* panel, std::int64_t,
                                                              float* sums) {
  std::int64_t i = 0;
  for (; i + 8 <= m; i += 8) multiply_rows<8>(depth, a + i * a_row, a_row, panel, sums + i * kThinColumns);
  for (; i + 4 <= m; i += 4) multiply_rows<4>(depth, a + i * a_row, a_row, panel, sums + i * kThinColumns);
  for (; i < m; i++) multiply_rows<1>(depth, a + i * a_row, a_row, panel, sums + i * kThinColumns);
}
#endif

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
std::int64_t sum_turned(const Gemm<float, float>& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
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
void sum_transposed(const Gemm<float, float>& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
  alignas(64) float panel[kDepth * kWidth];
  for (std::int64_t j = sum_turned(g, a, b, depth, columns, sums); j < columns; j += kWidth) {
    for (std::int64_t p = 0; p < depth; p += kDepth) {
      const std::int64_t count = min_of(kDepth, depth - p);
      turn(b + j * g.b_col + p, g.b_col, min_of(kWidth, columns - j), count, panel);
      multiply(g.m, count, a + p, g.a_row, panel, kWidth, sums + j);
    }
  }
}

void sum_plain(const Gemm<float, float>& g, const float* a, const float* b, std::int64_t depth, std::int64_t columns, float* sums) {
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

/// The sums over `depth` elements from p on, of 16-bit numbers.
template <class Word, class T, class C>
void sum_packed(const Gemm<T, C>& g, std::int64_t p, std::int64_t depth, std::int64_t begin, std::int64_t columns, float* sums) {
  constexpr std::int64_t kPanelDepth = kDepth * (std::is_same_v<Word, Pair> ? 2 : 1);
  alignas(64) Word rows[kThinRows * kSliceMax];
  alignas(64) Word panel[kDepth * kWidth];
  for (std::int64_t i = 0; i < g.m; i++) {
    const T* from = g.a + i * g.a_row + p;
    Word* to = rows + i * kSliceMax;
    if constexpr (std::is_same_v<Word, Pair>) {
      to[words_of<Word>(depth) - 1] = Pair{};
      __builtin_memcpy(to, from, static_cast<std::size_t>(depth) * sizeof(T));
    } else {
      each_vector(depth, [&](std::int64_t q, int n) { store_n(to + q, load_n(from + q, n), n); });
    }
  }
  for (std::int64_t j = 0; j < columns; j += kWidth) {
    const std::int64_t width = min_of(kWidth, columns - j);
    for (std::int64_t q = 0; q < depth; q += kPanelDepth) {
      const std::int64_t count = min_of(kPanelDepth, depth - q);
      const T* b = g.b + (p + q) * g.b_row + (begin + j) * g.b_col;
      if (g.b_row == 1) {
        for (std::int64_t i = 0; i < width; i++) __builtin_prefetch(b + i * g.b_col + kAhead);
      } else {
        for (std::int64_t i = 0; i < count; i++) __builtin_prefetch(b + (kPanelDepth + i) * g.b_row);
      }
      pack_panel<kWidth>(b, g.b_col, g.b_row, width, count, panel);
      multiply(g.m, words_of<Word>(count), rows + words_of<Word>(q), kSliceMax, panel, kWidth, sums + j);
    }
  }
}

/// Columns [begin, begin + count) of C. Sums of slices are added up in C if it holds floats, else apart.
template <class Word, class T, class C>
void multiply_columns(const Gemm<T, C>& g, std::int64_t begin, std::int64_t count) {
  constexpr bool kIsNarrow = !std::is_same_v<C, float>;
  constexpr std::int64_t kPerWord = std::is_same_v<Word, Pair> ? 2 : 1;
  alignas(64) float sums[kThinRows * kThinColumns];
  alignas(64) float apart[kIsNarrow ? kThinRows * kThinColumns : 1];
  float* totals = apart;
  std::int64_t stride = kThinColumns;
  if constexpr (!kIsNarrow) {
    totals = g.c + begin;
    stride = g.ldc;
  }
  const Depths size = cut_depth(words_of<Word>(g.k), kIsNarrow);
  for (std::int64_t block = 0; block < g.k; block += size.block * kPerWord) {
    const std::int64_t block_end = min_of(block + size.block * kPerWord, g.k);
    for (std::int64_t p = block; p < block_end; p += size.slice * kPerWord) {
      const std::int64_t depth = min_of(size.slice * kPerWord, block_end - p);
      for (std::int64_t i = 0; i < g.m; i++) __builtin_memset(sums + i * kThinColumns, 0, kThinColumns * sizeof(float));
      if constexpr (!std::is_same_v<T, float>) {
        sum_packed<Word>(g, p, depth, begin, count, sums);
      } else if (g.b_row == 1) {
        sum_transposed(g, g.a + p, g.b + p + begin * g.b_col, depth, count, sums);
      } else {
        sum_plain(g, g.a + p, g.b + p * g.b_row + begin, depth, count, sums);
      }
      const bool adds = g.accumulate || p > 0;
      for (std::int64_t i = 0; i < g.m; i++) {
        float* to = totals + i * stride;
        each_vector(count, [&](std::int64_t j, int n) {
          const Floats sum = load_n(sums + i * kThinColumns + j, n);
          store_n(to + j, adds ? load_n(to + j, n) + sum : sum, n);
        });
      }
    }
  }
  if (needs_finish(g)) with_kind(g.activation, Finish<T, C>{g, totals, stride, 0, begin, g.m, count});
}

/// Tiles of columns are claimed by the threads: about as many for each.
template <class Word, class T, class C>
void run(const Gemm<T, C>& g, const Team& team) {
  const std::int64_t most = (g.b_row == 1 ? 64 : kThinColumns) * team.count;
  const std::int64_t tiles = (g.n + most - 1) / most * team.count;
  const std::int64_t width = round_up((g.n + tiles - 1) / tiles, 32);
  for (std::int64_t tile = team.claim(); tile * width < g.n; tile = team.claim()) {
    multiply_columns<Word>(g, tile * width, min_of(width, g.n - tile * width));
  }
  team.barrier();
}

template <class C>
void run_bfloat16(const Gemm<BFloat16, C>& g, const Team& team) {
#if defined(__AVX512F__)
  if (has_pair_products()) {
    run<Pair>(g, team);
    return;
  }
#endif
  run<float>(g, team);
}

}  // namespace

void thin_product(const Gemm<float, float>& g, const Team& team) { run<float>(g, team); }
void thin_product(const Gemm<BFloat16, BFloat16>& g, const Team& team) { run_bfloat16(g, team); }
void thin_product(const Gemm<BFloat16, float>& g, const Team& team) { run_bfloat16(g, team); }
void thin_product(const Gemm<Float16, Float16>& g, const Team& team) { run<float>(g, team); }
void thin_product(const Gemm<Float16, float>& g, const Team& team) { run<float>(g, team); }

}  // namespace raylite::RL_ISA
