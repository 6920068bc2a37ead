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
constexpr std::int64_t kTurnedColumns = 16;  // of a tile of B [n, k]: no more than go by at once, so that memory is read in order

/// Whether the rows of A are rows of words as they are, to a depth of so many numbers.
template <class Word, class T, class C>
RL_INLINE bool holds_words(const Gemm<T, C>& g, std::int64_t depth) {
  return sizeof(Word) == kNumbersOf<Word> * sizeof(T) && depth % kNumbersOf<Word> == 0 && g.a_row % kNumbersOf<Word> == 0;
}

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

/// Columns [begin, begin + count) of C, while B is fetched from column `next` on. Sums of slices are added up in C if it holds
/// floats, else apart.
template <class Word, class T, class C>
void multiply_columns(const Gemm<T, C>& g, std::int64_t begin, std::int64_t count, std::int64_t next) {
  constexpr bool kIsNarrow = !std::is_same_v<C, float>;
  constexpr std::int64_t kNumbers = kNumbersOf<Word>;
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
  Ahead ahead(g.b + next * g.b_col);
  const Depths size = cut_depth(words_of<Word>(g.k), kIsNarrow);
  for (std::int64_t block = 0; block < g.k; block += size.block * kNumbers) {
    const std::int64_t block_end = min_of(block + size.block * kNumbers, g.k);
    for (std::int64_t p = block; p < block_end; p += size.slice * kNumbers) {
      const std::int64_t depth = min_of(size.slice * kNumbers, block_end - p);
      const Word* a = words;
      std::int64_t a_row = kSliceMax;
      if (holds_words<Word>(g, depth)) {
        a = reinterpret_cast<const Word*>(g.a + p);
        a_row = g.a_row / kNumbers;
      } else {
        copy_words<Word>(g, p, depth, words);
      }
      const T* b = g.b + p * g.b_row + begin * g.b_col;
      if (g.b_row == 1) {
        stream_turned(g.m, depth, count, a, a_row, b, g.b_col, sums, width, ahead);
      } else {
        __builtin_memset(sums, 0, static_cast<std::size_t>(g.m * width) * sizeof(float));
        stream_plain(g.m, depth, count, a, a_row, b, g.b_row, sums, width);
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

/// About as many tiles for each thread, which nearly take turns: whose turn a tile will be can be guessed, and what of it shall
/// be fetched. (Claiming it at once would leave nothing to others where tiles are few.)
template <class Word, class T, class C>
void run(const Gemm<T, C>& g, const Team& team) {
  const std::int64_t grain = g.b_row == 1 ? kTurnedColumns : 32;
  const std::int64_t most = g.b_row == 1 ? kTurnedColumns : min_of(kColumnsMax, kSums / g.m / grain * grain);
  const std::int64_t tiles = (g.n + most * team.count - 1) / (most * team.count) * team.count;
  const std::int64_t width = round_up((g.n + tiles - 1) / tiles, grain);
  for (std::int64_t tile = team.claim(); tile * width < g.n; tile = team.claim()) {
    multiply_columns<Word>(g, tile * width, min_of(width, g.n - tile * width), (tile + team.count) * width);
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
