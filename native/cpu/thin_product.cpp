// Tiles of columns are claimed by the threads. Of each tile every slice of depth is summed up apart (cpu/thin_streams.h), as in
// gemm(), and added to the slices before it.
#include "cpu/thin_product.h"

#include "cpu/gemm_blocking.h"
#include "cpu/gemm_finish.h"
#include "cpu/thin_streams.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kSums = 8192;         // of a tile: stay in the first-level cache
constexpr std::int64_t kColumnsMax = 4096;   // of a tile: long runs of B [k, n]
constexpr std::int64_t kTurnedColumns = 64;  // of a tile of B [n, k], which is read in runs of whole rows anyway

/// Slice [p, p + depth) of the rows of A as words; behind an odd depth of pairs stands a 0.
template <class Word, class T, class C>
RL_INLINE void copy_words(const Gemm<T, C>& g, std::int64_t p, std::int64_t depth, Word* words) {
  for (std::int64_t i = 0; i < g.m; i++) {
    const T* from = g.a + i * g.a_row + p;
    Word* to = words + i * kSliceMax;
    if constexpr (std::is_same_v<Word, Pair>) {
      to[words_of<Word>(depth) - 1] = Pair{};
      __builtin_memcpy(to, from, static_cast<std::size_t>(depth) * sizeof(T));
    } else {
      each_vector(depth, [&](std::int64_t q, int n) { store_n(to + q, load_n(from + q, n), n); });
    }
  }
}

/// Columns [begin, begin + count) of C. Sums of slices are added up in C if it holds floats, else apart.
template <class Word, class T, class C>
void multiply_columns(const Gemm<T, C>& g, std::int64_t begin, std::int64_t count) {
  constexpr bool kIsNarrow = !std::is_same_v<C, float>;
  constexpr std::int64_t kNumbers = std::is_same_v<Word, Pair> ? 2 : 1;  // in a word
  alignas(64) Word words[kThinRows * kSliceMax];
  alignas(64) float sums[kSums];
  alignas(64) float apart[kIsNarrow ? kSums : 1];
  const std::int64_t width = round_up(count, 32);
  float* totals = apart;
  std::int64_t stride = width;
  if constexpr (!kIsNarrow) {
    totals = g.c + begin;
    stride = g.ldc;
  }
  const Depths size = cut_depth(words_of<Word>(g.k), kIsNarrow);
  for (std::int64_t block = 0; block < g.k; block += size.block * kNumbers) {
    const std::int64_t block_end = min_of(block + size.block * kNumbers, g.k);
    for (std::int64_t p = block; p < block_end; p += size.slice * kNumbers) {
      const std::int64_t depth = min_of(size.slice * kNumbers, block_end - p);
      copy_words<Word>(g, p, depth, words);
      const T* b = g.b + p * g.b_row + begin * g.b_col;
      if (g.b_row == 1) {
        stream_turned(g.m, depth, count, words, kSliceMax, b, g.b_col, sums, width);
      } else {
        __builtin_memset(sums, 0, static_cast<std::size_t>(g.m * width) * sizeof(float));
        stream_plain(g.m, depth, count, words, kSliceMax, b, g.b_row, sums, width);
      }
      const bool adds = g.accumulate || p > 0;
      for (std::int64_t i = 0; i < g.m; i++) {
        float* to = totals + i * stride;
        each_vector(count, [&](std::int64_t j, int n) {
          const Floats sum = load_n(sums + i * width + j, n);
          store_n(to + j, adds ? load_n(to + j, n) + sum : sum, n);
        });
      }
    }
  }
  if (needs_finish(g)) with_kind(g.activation, Finish<T, C>{g, totals, stride, 0, begin, g.m, count});
}

/// About as many tiles for each thread.
template <class Word, class T, class C>
void run(const Gemm<T, C>& g, const Team& team) {
  const std::int64_t most = g.b_row == 1 ? kTurnedColumns : min_of(kColumnsMax, kSums / g.m / 32 * 32);
  const std::int64_t tiles = (g.n + most * team.count - 1) / (most * team.count) * team.count;
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
