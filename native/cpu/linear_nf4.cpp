// linear_nf4 and the gradient of its input: rows of w are made floats a tile at a time, which the team then multiplies by.
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

constexpr std::int64_t kTileFloats = 1 << 20;  // 4 MiB: stays in the caches while it is packed

RL_INLINE float scale_of(const Nf4Matrix& w, std::int64_t block) {
  if (w.bytes == nullptr) return w.floats[block];
  const float* map = w.floats + 1;
  return map[w.bytes[block]] * map[256 + block / kNf4Superblock] + w.floats[0];
}

/// 64 values of 32 bytes.
RL_INLINE void whole_block(const std::uint8_t* nibbles, float scale, float* to) {
#if defined(__AVX2__)
  const __m128i low = _mm_set1_epi8(15);
  for (int half = 0; half < 2; half++) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles + 16 * half));
    const __m128i firsts = _mm_and_si128(_mm_srli_epi16(pairs, 4), low);
    const __m128i seconds = _mm_and_si128(pairs, low);
    const __m128i index[2] = {_mm_unpacklo_epi8(firsts, seconds), _mm_unpackhi_epi8(firsts, seconds)};
    for (int quarter = 0; quarter < 2; quarter++) {
      float* at = to + 32 * half + 16 * quarter;
#if defined(__AVX512F__)
      const __m512 values = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(index[quarter]), _mm512_load_ps(kTable));
      _mm512_storeu_ps(at, _mm512_mul_ps(values, _mm512_set1_ps(scale)));
#else
      for (int eight = 0; eight < 2; eight++) {
        const __m256i i = _mm256_cvtepu8_epi32(eight == 0 ? index[quarter] : _mm_srli_si128(index[quarter], 8));
        const __m256 below = _mm256_permutevar8x32_ps(_mm256_load_ps(kTable), i);
        const __m256 above = _mm256_permutevar8x32_ps(_mm256_load_ps(kTable + 8), i);
        const __m256 is_above = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));  // bit 3 becomes the sign
        const __m256 values = _mm256_blendv_ps(below, above, is_above);
        _mm256_storeu_ps(at + 8 * eight, _mm256_mul_ps(values, _mm256_set1_ps(scale)));
      }
#endif
    }
  }
#else
  for (int i = 0; i < 32; i++) {
    to[2 * i] = kTable[nibbles[i] >> 4] * scale;
    to[2 * i + 1] = kTable[nibbles[i] & 15] * scale;
  }
#endif
}

/// Values [begin, end) of the flattened matrix.
void dequantise(const Nf4Matrix& w, std::int64_t begin, std::int64_t end, float* to) {
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t block = at / kNf4Block;
    const std::int64_t last = min_of(end, (block + 1) * kNf4Block);
    const float scale = scale_of(w, block);
    if (last - at == kNf4Block) {
      whole_block(w.nibbles + at / 2, scale, to + (at - begin));
    } else {
      for (std::int64_t e = at; e < last; e++) {
        const int pair = w.nibbles[e / 2];
        to[e - begin] = kTable[e % 2 == 0 ? pair >> 4 : pair & 15] * scale;
      }
    }
    at = last;
  }
}

/// Rows of w that are floats at a time.
RL_INLINE std::int64_t tile_rows(const Nf4Matrix& w) {
  const std::int64_t most = max_of(1, min_of(w.rows, kTileFloats / w.columns));
  return most > 192 ? most / 192 * 192 : most;
}

/// c = a w^T (+ bias) if the rows of w are the columns of c, else a w. a has n rows.
void product(const Nf4Matrix& w, bool is_by_rows, const float* a, std::int64_t n, const float* bias, float* c, const Team& team) {
  const std::int64_t step = tile_rows(w);
  float* tile = reinterpret_cast<float*>(team.workspace);
  std::uint8_t* gemm_space = team.workspace + (static_cast<std::size_t>(step * w.columns) * 4 + 63) / 64 * 64;
  for (std::int64_t row = 0; row < w.rows; row += step) {
    const std::int64_t rows = min_of(step, w.rows - row);
    const Range mine = share(team, rows * w.columns, kNf4Block);
    const std::int64_t first = row * w.columns;
    dequantise(w, first + mine.begin, first + mine.end, tile + mine.begin);
    team.barrier();
    Gemm<float, float> g{};
    g.m = n;
    g.a_col = 1;
    g.b = tile;
    if (is_by_rows) {
      g.n = rows, g.k = w.columns;
      g.a = a, g.a_row = w.columns;
      g.b_row = 1, g.b_col = w.columns;
      g.c = c + row, g.ldc = w.rows;
      g.bias = bias == nullptr ? nullptr : bias + row;
    } else {
      g.n = w.columns, g.k = rows;
      g.a = a + row, g.a_row = w.rows;
      g.b_row = w.columns, g.b_col = 1;
      g.c = c, g.ldc = w.columns;
      g.accumulate = row > 0;
      g.bias = row + rows == w.rows ? bias : nullptr;
    }
    gemm(g, team, gemm_space);
  }
}

std::size_t product_workspace(const Nf4Matrix& w, bool is_by_rows, std::int64_t n, int threads) {
  const std::int64_t step = tile_rows(w);
  const std::size_t tile = (static_cast<std::size_t>(step * w.columns) * 4 + 63) / 64 * 64;
  return tile + (is_by_rows ? gemm_workspace_of<float>(n, step, w.columns, threads) : gemm_workspace_of<float>(n, w.columns, step, threads));
}

}  // namespace

void linear_nf4(const LinearNf4Arguments& a, const Team& team) {
  product(a.w, !a.transposed, a.x, a.n, a.bias, a.y, team);
}

void linear_nf4_backward_input(const LinearNf4BackwardInputArguments& a, const Team& team) {
  product(a.w, a.transposed, a.dy, a.n, nullptr, a.dx, team);
}

std::size_t linear_nf4_workspace(const LinearNf4Arguments& a, int threads) {
  return product_workspace(a.w, !a.transposed, a.n, threads);
}

std::size_t linear_nf4_backward_input_workspace(const LinearNf4BackwardInputArguments& a, int threads) {
  return product_workspace(a.w, a.transposed, a.n, threads);
}

}  // namespace raylite::RL_ISA
