// How a product runs. A is cut into micropanels of kTileRows rows, B into micropanels of kTileColumns columns, both packed
// so that the inner loop reads them front to back:
//   for each block of A (rows x depth, at most kPackedFloats): the team packs it, each micropanel once;
//     tiles of C (kBlockColumns columns, some rows) are claimed by the threads; for each slice of depth (kSliceMax):
//       the thread packs its part of B (stays in its second-level cache),
//       and for each micropanel of A (stays in the first-level cache) sweeps the micropanels of B.
// Sums run over depth in one order whatever the team: the same bits for any number of threads.
#include "cpu/gemm.h"

#include "cpu/math.h"
#include "cpu/pack.h"
#include "cpu/split.h"
#include "cpu/thin_product.h"

namespace raylite::RL_ISA {

namespace {

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
constexpr std::int64_t kSliceMax = 384;
constexpr std::int64_t kDepthMax = 11 * kSliceMax;
constexpr std::int64_t kBlockColumns = 192 / kTileColumns * kTileColumns;
constexpr std::int64_t kPackedFloats = 4 << 20;  // 16 MiB of packed A at a time

RL_INLINE std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

/// The size of equal parts of `whole`, each at most `most`, rounded up to a multiple of `grain`.
RL_INLINE std::int64_t even(std::int64_t whole, std::int64_t most, std::int64_t grain) {
  const std::int64_t parts = (whole + most - 1) / most;
  return round_up((whole + parts - 1) / parts, grain);
}

/// c[kTileRows, kTileColumns] (+)= a (packed, depth x kTileRows) * b (packed, depth x kTileColumns).
template <bool kAccumulate>
__attribute__((noinline)) void tile(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t ldc) {
  Floats sums[kTileRows][kTileVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) sums[i][j] = Floats{};
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + kTileColumns - 1, 1);
  }
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
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; i++) {
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; j++) {
      float* at = c + i * ldc + j * kLanes;
      store(at, kAccumulate ? load(at) + sums[i][j] : sums[i][j]);
    }
  }
}

/// A tile at the edge of C goes through a full-size copy.
void edge_tile(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t ldc, std::int64_t rows,
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

/// What happens to finished rows of C while they are in the cache.
struct Finish {
  const Gemm& g;
  std::int64_t row, column, rows, columns;
  template <Activation kKind>
  void operator()() const {
    for (std::int64_t i = row; i < row + rows; i++) {
      each_vector(columns, [&](std::int64_t jj, int n) {
        const std::int64_t j = column + jj;
        Floats x = load_n(g.c + i * g.ldc + j, n);
        if (g.bias != nullptr) x += load_n(g.bias + j, n);
        if (g.pre != nullptr) store_n(g.pre + i * g.ldc + j, x, n);
        x = activate<kKind>(x);
        if (g.addend != nullptr) x += load_n(g.addend + i * g.ldc + j, n);
        store_n(g.c + i * g.ldc + j, x, n);
      });
    }
  }
};

RL_INLINE bool needs_finish(const Gemm& g) {
  return g.bias != nullptr || g.pre != nullptr || g.addend != nullptr || g.activation != Activation::kNone;
}

/// Tiles of columns are claimed by the threads: about as many for each.
void thin_products(const Gemm& g, const Team& team) {
  const std::int64_t tiles = (g.n + kThinColumns * team.count - 1) / (kThinColumns * team.count) * team.count;
  const std::int64_t width = round_up((g.n + tiles - 1) / tiles, 32);
  const bool finishes = needs_finish(g);
  for (std::int64_t tile = team.claim(); tile * width < g.n; tile = team.claim()) {
    const std::int64_t begin = tile * width;
    const std::int64_t count = min_of(width, g.n - begin);
    thin_product(g, begin, count);
    if (finishes) with_kind(g.activation, Finish{g, 0, begin, g.m, count});
  }
  team.barrier();
}

struct Blocking {
  std::int64_t rows, depth;         // of a packed block of A
  std::int64_t slice;               // depth of a packed part of B
  std::int64_t task_rows;           // rows of C a thread takes at a time
  std::int64_t packed_a, packed_b;  // floats: of the block, of one thread's part of B
};

Blocking blocking(std::int64_t m, std::int64_t n, std::int64_t k, int threads) {
  Blocking size;
  const Depths depths = cut_depth(k);
  size.depth = depths.block;
  size.rows = even(m, max_of(kPackedFloats / size.depth, kTileRows), kTileRows);
  size.slice = depths.slice;
  // Enough tasks for every thread to have some to spare, but rows enough to pay for packing B.
  const std::int64_t across = (n + kBlockColumns - 1) / kBlockColumns;
  std::int64_t down = 1;
  while (across * down < 4 * threads && size.rows / (down + 1) >= 16 * kTileRows) down++;
  size.task_rows = threads == 1 ? size.rows : round_up((size.rows + down - 1) / down, kTileRows);
  size.packed_a = size.rows * size.depth;
  size.packed_b = size.slice * min_of(kBlockColumns, round_up(n, kTileColumns));
  return size;
}

}  // namespace

Depths cut_depth(std::int64_t k) {
  const std::int64_t block = even(k, kDepthMax, 16);
  return {block, even(block, kSliceMax, 16)};
}

std::size_t gemm_workspace(std::int64_t m, std::int64_t n, std::int64_t k, int threads) {
  // Blocks are equal parts, so that a smaller product may have larger ones: this is their limit, not blocking()'s figure.
  const std::int64_t depth = min_of(round_up(k, 16), kDepthMax);
  const std::int64_t packed_a = min_of(m * depth, max_of(kPackedFloats, kTileRows * depth)) + kTileRows * depth;
  const std::int64_t packed_b = min_of(depth, kSliceMax) * min_of(kBlockColumns, round_up(n, kTileColumns));
  return static_cast<std::size_t>(round_up(packed_a, 16) + threads * round_up(packed_b, 16)) * 4;
}

void gemm(const Gemm& g, const Team& team, std::uint8_t* workspace) {
  if (is_thin(g)) {
    thin_products(g, team);
    return;
  }
  const Blocking size = blocking(g.m, g.n, g.k, team.count);
  float* packed_a = reinterpret_cast<float*>(workspace);
  float* packed_b = packed_a + round_up(size.packed_a, 16) + team.index * round_up(size.packed_b, 16);
  const std::int64_t across = (g.n + kBlockColumns - 1) / kBlockColumns;
  const bool finishes = needs_finish(g);

  for (std::int64_t row0 = 0; row0 < g.m; row0 += size.rows) {
    const std::int64_t rows = min_of(size.rows, g.m - row0);
    const std::int64_t panels = (rows + kTileRows - 1) / kTileRows;
    for (std::int64_t depth0 = 0; depth0 < g.k; depth0 += size.depth) {
      const std::int64_t depth = min_of(size.depth, g.k - depth0);
      const Range mine = share(team, panels, 1);
      for (std::int64_t panel = mine.begin; panel < mine.end; panel++) {
        const std::int64_t i = row0 + panel * kTileRows;
        pack_panel<kTileRows>(g.a + i * g.a_row + depth0 * g.a_col, g.a_row, g.a_col, min_of(kTileRows, g.m - i), depth,
                              packed_a + panel * kTileRows * depth);
      }
      team.barrier();

      const std::int64_t down = (rows + size.task_rows - 1) / size.task_rows;
      for (std::int64_t task = team.claim(); task < across * down; task = team.claim()) {
        const std::int64_t column0 = task / down * kBlockColumns;
        const std::int64_t columns = min_of(kBlockColumns, g.n - column0);
        const std::int64_t first_row = task % down * size.task_rows;
        const std::int64_t last_row = min_of(first_row + size.task_rows, rows);
        for (std::int64_t slice0 = 0; slice0 < depth; slice0 += size.slice) {
          const std::int64_t slice = min_of(size.slice, depth - slice0);
          for (std::int64_t j = 0; j < columns; j += kTileColumns) {
            pack_panel<kTileColumns>(g.b + (depth0 + slice0) * g.b_row + (column0 + j) * g.b_col, g.b_col, g.b_row,
                                     min_of(kTileColumns, columns - j), slice, packed_b + j * slice);
          }
          const bool adds = g.accumulate || depth0 + slice0 > 0;
          const bool last = finishes && depth0 + slice0 + slice == g.k;
          for (std::int64_t i = first_row; i < last_row; i += kTileRows) {
            const float* a = packed_a + i * depth + slice0 * kTileRows;
            const std::int64_t tile_rows = min_of(kTileRows, last_row - i);
            for (std::int64_t j = 0; j < columns; j += kTileColumns) {
              float* c = g.c + (row0 + i) * g.ldc + column0 + j;
              const std::int64_t tile_columns = min_of(kTileColumns, columns - j);
              if (tile_rows < kTileRows || tile_columns < kTileColumns) {
                edge_tile(slice, a, packed_b + j * slice, c, g.ldc, tile_rows, tile_columns, adds);
              } else if (adds) {
                tile<true>(slice, a, packed_b + j * slice, c, g.ldc);
              } else {
                tile<false>(slice, a, packed_b + j * slice, c, g.ldc);
              }
            }
            if (last) with_kind(g.activation, Finish{g, row0 + i, column0, tile_rows, columns});
          }
        }
      }
      team.barrier();
    }
  }
}

}  // namespace raylite::RL_ISA
