// How a product runs. A is cut into micropanels of kTileRows rows, B into micropanels of kTileColumns columns, both packed
// so that the inner loop reads them front to back:
//   for each block of A (rows x depth, at most kPackedWords): the team packs it, each micropanel once;
//     tiles of C (kBlockColumns columns, some rows) are claimed by the threads; for each slice of depth (kSliceMax):
//       the thread packs its part of B (stays in its second-level cache),
//       and for each micropanel of A (stays in the first-level cache) sweeps the micropanels of B.
// Sums run over depth in one order whatever the team: the same bits for any number of threads. They are added up in C if
// it holds floats, else in a scratch block of the thread, whose depth is then never cut into blocks.
// Depth is counted in words of the panels: a float each, or two bf16 where the CPU multiplies pairs.
#include "cpu/gemm.h"

#include "cpu/gemm_blocking.h"
#include "cpu/gemm_finish.h"
#include "cpu/split.h"
#include "cpu/thin_product.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kBlockColumns = 192 / kTileColumns * kTileColumns;
constexpr std::int64_t kPackedWords = 4 << 20;  // 16 MiB of packed A at a time
constexpr std::int64_t kScratchRows = 64 * kTileRows;

struct Blocking {
  std::int64_t rows, depth;               // of a packed block of A
  std::int64_t slice;                     // depth of a packed part of B
  std::int64_t task_rows;                 // rows of C a thread takes at a time
  std::int64_t packed_a, packed_b;        // words: of the block, of one thread's part of B
  std::int64_t scratch;                   // floats of one thread
};

/// `k` in words.
Blocking blocking(std::int64_t m, std::int64_t n, std::int64_t k, int threads, bool is_narrow) {
  Blocking size;
  const Depths depths = cut_depth(k, is_narrow);
  size.depth = depths.block;
  size.rows = even(m, max_of(kPackedWords / size.depth, kTileRows), kTileRows);
  size.slice = depths.slice;
  // Enough tasks for every thread to have some to spare, but rows enough to pay for packing B.
  const std::int64_t across = (n + kBlockColumns - 1) / kBlockColumns;
  std::int64_t down = 1;
  while (across * down < 4 * threads && size.rows / (down + 1) >= 16 * kTileRows) down++;
  size.task_rows = threads == 1 ? size.rows : round_up((size.rows + down - 1) / down, kTileRows);
  if (is_narrow && size.slice < size.depth) size.task_rows = even(size.rows, min_of(size.task_rows, kScratchRows), kTileRows);
  size.packed_a = size.rows * size.depth;
  size.packed_b = size.slice * min_of(kBlockColumns, round_up(n, kTileColumns));
  // One slice: a micropanel's rows are finished before the next is begun.
  size.scratch = is_narrow ? (size.slice < size.depth ? size.task_rows : kTileRows) * kBlockColumns : 0;
  return size;
}

/// One product in panels of `Word`.
template <class Word, class T, class C>
struct Product {
  static constexpr bool kIsNarrow = !std::is_same_v<C, float>;
  static constexpr std::int64_t kPerWord = kNumbersOf<Word>;
  const Gemm<T, C>& g;
  const Team& team;
  Blocking size;
  Word *packed_a, *packed_b;
  float* scratch;

  Product(const Gemm<T, C>& gemm, const Team& team, std::uint8_t* workspace)
      : g(gemm), team(team), size(blocking(g.m, g.n, words_of<Word>(g.k), team.count, kIsNarrow)) {
    packed_a = reinterpret_cast<Word*>(workspace);
    packed_b = packed_a + round_up(size.packed_a, 16) + team.index * round_up(size.packed_b, 16);
    scratch = reinterpret_cast<float*>(packed_a + round_up(size.packed_a, 16) + team.count * round_up(size.packed_b, 16)) +
              team.index * size.scratch;
  }

  void run() const {
    const std::int64_t across = (g.n + kBlockColumns - 1) / kBlockColumns;
    for (std::int64_t row0 = 0; row0 < g.m; row0 += size.rows) {
      const std::int64_t rows = min_of(size.rows, g.m - row0);
      for (std::int64_t depth0 = 0; depth0 < words_of<Word>(g.k); depth0 += size.depth) {
        const std::int64_t depth = min_of(size.depth, words_of<Word>(g.k) - depth0);
        pack_a(row0, rows, depth0, depth);
        team.barrier();
        const std::int64_t down = (rows + size.task_rows - 1) / size.task_rows;
        for (std::int64_t task = team.claim(); task < across * down; task = team.claim()) {
          const std::int64_t first = task % down * size.task_rows;
          block(row0, {first, min_of(first + size.task_rows, rows)}, task / down * kBlockColumns, depth0, depth);
        }
        team.barrier();
      }
    }
  }

  /// Elements of depth from word `at` on, at most those of `count` words.
  std::int64_t elements(std::int64_t at, std::int64_t count) const { return min_of(count * kPerWord, g.k - at * kPerWord); }

  void pack_a(std::int64_t row0, std::int64_t rows, std::int64_t depth0, std::int64_t depth) const {
    const Range mine = share(team, (rows + kTileRows - 1) / kTileRows, 1);
    for (std::int64_t panel = mine.begin; panel < mine.end; panel++) {
      const std::int64_t i = row0 + panel * kTileRows;
      pack_panel<kTileRows>(g.a + i * g.a_row + depth0 * kPerWord * g.a_col, g.a_row, g.a_col, min_of(kTileRows, g.m - i),
                            elements(depth0, depth), packed_a + panel * kTileRows * depth);
    }
  }

  /// Rows of the packed block times kBlockColumns columns of B.
  void block(std::int64_t row0, const Range& rows, std::int64_t column0, std::int64_t depth0, std::int64_t depth) const {
    const std::int64_t columns = min_of(kBlockColumns, g.n - column0);
    const bool finishes = needs_finish(g);
    for (std::int64_t slice0 = 0; slice0 < depth; slice0 += size.slice) {
      const std::int64_t slice = min_of(size.slice, depth - slice0);
      const std::int64_t at = depth0 + slice0;
      for (std::int64_t j = 0; j < columns; j += kTileColumns) {
        pack_panel<kTileColumns>(g.b + at * kPerWord * g.b_row + (column0 + j) * g.b_col, g.b_col, g.b_row,
                                 min_of(kTileColumns, columns - j), elements(at, slice), packed_b + j * slice);
      }
      const bool adds = g.accumulate || at > 0;
      const bool last = finishes && at + slice == words_of<Word>(g.k);
      for (std::int64_t i = rows.begin; i < rows.end; i += kTileRows) {
        const Word* a = packed_a + i * depth + slice0 * kTileRows;
        const std::int64_t tile_rows = min_of(kTileRows, rows.end - i);
        float* sums;
        std::int64_t stride;
        if constexpr (kIsNarrow) {
          sums = scratch + (size.slice < size.depth ? i - rows.begin : 0) * kBlockColumns;
          stride = kBlockColumns;
        } else {
          sums = g.c + (row0 + i) * g.ldc + column0;
          stride = g.ldc;
        }
        for (std::int64_t j = 0; j < columns; j += kTileColumns) {
          const std::int64_t tile_columns = min_of(kTileColumns, columns - j);
          if (!kIsNarrow && (tile_rows < kTileRows || tile_columns < kTileColumns)) {
            edge_tile(slice, a, packed_b + j * slice, sums + j, stride, tile_rows, tile_columns, adds);
          } else if (adds) {
            tile<true>(slice, a, packed_b + j * slice, sums + j, stride);
          } else {
            tile<false>(slice, a, packed_b + j * slice, sums + j, stride);
          }
        }
        if (last) with_kind(g.activation, Finish<T, C>{g, sums, stride, row0 + i, column0, tile_rows, columns});
      }
    }
  }
};

template <class T, class C>
void multiply(const Gemm<T, C>& g, const Team& team, std::uint8_t* workspace) {
  if (is_thin(g)) {
    thin_product(g, team);
    return;
  }
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (has_pair_products()) {
      Product<Pair, T, C>(g, team, workspace).run();
      return;
    }
  }
#endif
  Product<float, T, C>(g, team, workspace).run();
}

}  // namespace

void gemm(const Gemm<float, float>& g, const Team& team, std::uint8_t* workspace) { multiply(g, team, workspace); }
void gemm(const Gemm<BFloat16, BFloat16>& g, const Team& team, std::uint8_t* workspace) { multiply(g, team, workspace); }
void gemm(const Gemm<BFloat16, float>& g, const Team& team, std::uint8_t* workspace) { multiply(g, team, workspace); }
void gemm(const Gemm<Float16, Float16>& g, const Team& team, std::uint8_t* workspace) { multiply(g, team, workspace); }
void gemm(const Gemm<Float16, float>& g, const Team& team, std::uint8_t* workspace) { multiply(g, team, workspace); }

std::size_t gemm_workspace(std::int64_t m, std::int64_t n, std::int64_t k, int threads, bool is_narrow) {
  // Blocks are equal parts, so that a smaller product may have larger ones: this is their limit, not blocking()'s figure.
  const std::int64_t depth = is_narrow ? round_up(k, 16) : min_of(round_up(k, 16), kDepthMax);
  const std::int64_t packed_a = min_of(m * depth, max_of(kPackedWords, kTileRows * depth)) + kTileRows * depth;
  const std::int64_t packed_b = min_of(depth, kSliceMax) * min_of(kBlockColumns, round_up(n, kTileColumns));
  const std::int64_t scratch = is_narrow ? min_of(round_up(m, kTileRows), kScratchRows) * kBlockColumns : 0;
  const std::int64_t words = round_up(packed_a, 16) + threads * (round_up(packed_b, 16) + scratch);
  return static_cast<std::size_t>(words) * 4;
}

}  // namespace raylite::RL_ISA
