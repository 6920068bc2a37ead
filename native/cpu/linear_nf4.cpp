// linear_nf4 and the gradient of its input: w is made numbers of T a tile at a time, which the team then multiplies by.
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

/// Quantiles of a normal distribution, with an exact 0 (QLoRA, appendix E; the digits are bitsandbytes').
alignas(64) constexpr float kTable[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

constexpr std::int64_t kTileElements = 1 << 20;  // a few MiB: stays in the caches while it is packed

RL_INLINE float scale_of(const Nf4Matrix& w, std::int64_t block) {
  if (w.bytes == nullptr) return w.floats[block];
  const float* map = w.floats + 1;
  // In double: rounded once on every instruction set, and as engine/nf4.ts does.
  return static_cast<float>(static_cast<double>(map[w.bytes[block]]) * map[256 + block / kNf4Superblock] + w.floats[0]);
}

/// 64 values of 32 bytes.
template <class T>
RL_INLINE void whole_block(const std::uint8_t* nibbles, float scale, T* to) {
#if defined(__AVX2__)
  const __m128i low = _mm_set1_epi8(15);
  for (int half = 0; half < 2; half++) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles + 16 * half));
    const __m128i firsts = _mm_and_si128(_mm_srli_epi16(pairs, 4), low);
    const __m128i seconds = _mm_and_si128(pairs, low);
    const __m128i index[2] = {_mm_unpacklo_epi8(firsts, seconds), _mm_unpackhi_epi8(firsts, seconds)};
    for (int quarter = 0; quarter < 2; quarter++) {
      T* at = to + 32 * half + 16 * quarter;
#if defined(__AVX512F__)
      const __m512 values = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(index[quarter]), _mm512_load_ps(kTable));
      store(at, values * scale);
#else
      for (int eight = 0; eight < 2; eight++) {
        const __m256i i = _mm256_cvtepu8_epi32(eight == 0 ? index[quarter] : _mm_srli_si128(index[quarter], 8));
        const __m256 below = _mm256_permutevar8x32_ps(_mm256_load_ps(kTable), i);
        const __m256 above = _mm256_permutevar8x32_ps(_mm256_load_ps(kTable + 8), i);
        const __m256 is_above = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));  // bit 3 becomes the sign
        store(at + 8 * eight, _mm256_blendv_ps(below, above, is_above) * scale);
      }
#endif
    }
  }
#else
  for (int i = 0; i < 32; i++) {
    store_one(to + 2 * i, kTable[nibbles[i] >> 4] * scale);
    store_one(to + 2 * i + 1, kTable[nibbles[i] & 15] * scale);
  }
#endif
}

/// Values [begin, end) of the flattened matrix.
template <class T>
void dequantise(const Nf4Matrix& w, std::int64_t begin, std::int64_t end, T* to) {
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t block = at / kNf4Block;
    const std::int64_t last = min_of(end, (block + 1) * kNf4Block);
    const float scale = scale_of(w, block);
    if (last - at == kNf4Block) {
      whole_block(w.nibbles + at / 2, scale, to + (at - begin));
    } else {
      for (std::int64_t e = at; e < last; e++) {
        const int pair = w.nibbles[e / 2];
        store_one(to + (e - begin), kTable[e % 2 == 0 ? pair >> 4 : pair & 15] * scale);
      }
    }
    at = last;
  }
}

/// A tile is some rows of w, or some columns: those that are columns of the product, so that no sum is ever cut.
struct Tiling {
  std::int64_t columns_of_c, depth;
  std::int64_t step;  // of columns of c
};

RL_INLINE Tiling tiling_of(const Nf4Matrix& w, bool is_by_rows) {
  const std::int64_t columns = is_by_rows ? w.rows : w.columns;
  const std::int64_t depth = is_by_rows ? w.columns : w.rows;
  const std::int64_t most = max_of(1, min_of(columns, kTileElements / depth));
  return {columns, depth, most > 192 ? most / 192 * 192 : most};
}

template <class T>
RL_INLINE std::size_t tile_bytes(const Tiling& tiling) {
  return (static_cast<std::size_t>(tiling.step * tiling.depth) * sizeof(T) + 63) / 64 * 64;
}

/// c = a w^T (+ bias) if the rows of w are the columns of c, else a w. a has n rows.
template <class T>
void product(const Nf4Matrix& w, bool is_by_rows, const T* a, std::int64_t n, const T* bias, T* c, const Team& team) {
  const Tiling tiling = tiling_of(w, is_by_rows);
  T* tile = reinterpret_cast<T*>(team.workspace);
  for (std::int64_t begin = 0; begin < tiling.columns_of_c; begin += tiling.step) {
    const std::int64_t count = min_of(tiling.step, tiling.columns_of_c - begin);
    if (is_by_rows) {
      const Range mine = share(team, count * w.columns, kNf4Block);
      const std::int64_t first = begin * w.columns;
      dequantise(w, first + mine.begin, first + mine.end, tile + mine.begin);
    } else {
      const Range rows = share(team, w.rows, 1);
      for (std::int64_t row = rows.begin; row < rows.end; row++) {
        const std::int64_t first = row * w.columns + begin;
        dequantise(w, first, first + count, tile + row * count);
      }
    }
    team.barrier();
    Gemm<T, T> g{};
    g.m = n, g.n = count, g.k = tiling.depth;
    g.a = a, g.a_row = tiling.depth, g.a_col = 1;
    g.b = tile;
    g.b_row = is_by_rows ? 1 : count;
    g.b_col = is_by_rows ? w.columns : 1;
    g.c = c + begin, g.ldc = tiling.columns_of_c;
    g.bias = bias == nullptr ? nullptr : bias + begin;
    gemm(g, team, team.workspace + tile_bytes<T>(tiling));
  }
}

template <class T>
std::size_t product_workspace(const Nf4Matrix& w, bool is_by_rows, std::int64_t n, int threads) {
  const Tiling tiling = tiling_of(w, is_by_rows);
  return tile_bytes<T>(tiling) + gemm_workspace_of<T>(n, tiling.step, tiling.depth, threads);
}

}  // namespace

template <class T>
static void linear_nf4_of(const LinearNf4Arguments<T>& a, const Team& team) {
  product(a.w, !a.transposed, a.x, a.n, a.bias, a.y, team);
}

template <class T>
static void linear_nf4_backward_input_of(const LinearNf4BackwardInputArguments<T>& a, const Team& team) {
  product<T>(a.w, a.transposed, a.dy, a.n, nullptr, a.dx, team);
}

template <class T>
static std::size_t linear_nf4_workspace_of(const LinearNf4Arguments<T>& a, int threads) {
  return product_workspace<T>(a.w, !a.transposed, a.n, threads);
}

template <class T>
static std::size_t linear_nf4_backward_input_workspace_of(const LinearNf4BackwardInputArguments<T>& a, int threads) {
  return product_workspace<T>(a.w, a.transposed, a.n, threads);
}

RL_DEFINE(linear_nf4, LinearNf4Arguments)
RL_DEFINE(linear_nf4_backward_input, LinearNf4BackwardInputArguments)
RL_DEFINE_WORKSPACE(linear_nf4, LinearNf4Arguments)
RL_DEFINE_WORKSPACE(linear_nf4_backward_input, LinearNf4BackwardInputArguments)

}  // namespace raylite::RL_ISA
