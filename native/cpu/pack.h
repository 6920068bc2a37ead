// Packs rows of a strided matrix into a micropanel of 32-bit words: element (i, p) goes to packed[p * kWidth + i], rows
// beyond `rows` become 0. One of the strides is 1. A word is a float, or a pair of bf16 that follow each other in depth.
#pragma once
#include "cpu/storage.h"

namespace raylite::RL_ISA {

struct Pair {
  BFloat16 first, second;
};

/// Numbers in a word.
template <class Word>
constexpr std::int64_t kNumbersOf = std::is_same_v<Word, Pair> ? 2 : 1;

#if defined(__AVX512F__)
RL_INLINE bool has_pair_products() { return __builtin_cpu_supports("avx512bf16"); }

/// Transposes 16 x 16 floats: 4 rounds of interleaving.
RL_INLINE void transpose(__m512 r[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// Writes the transpose of a block to 16 rows of a panel: all 16 of its columns, or the 8 of a narrow panel.
template <int kWidth>
RL_INLINE void store_transposed(__m512 block[16], void* packed) {
  transpose(block);
#pragma GCC unroll 16
  for (int q = 0; q < 16; q++) {
    std::uint8_t* to = static_cast<std::uint8_t*>(packed) + 4 * q * kWidth;
    if (kWidth < 16) {
      _mm256_storeu_ps(reinterpret_cast<float*>(to), _mm512_castps512_ps256(block[q]));
    } else {
      _mm512_storeu_ps(to, block[q]);
    }
  }
}
#endif

template <int kWidth, class T>
__attribute__((noinline)) static void pack_panel(const T* from, std::int64_t row_stride, std::int64_t depth_stride,
                                                 std::int64_t rows, std::int64_t depth, float* packed) {
  if (row_stride == 1) {
    // Already in the panel's order: copy kWidth numbers at a time.
    if (rows == kWidth) {
      for (std::int64_t p = 0; p < depth; p++) {
        each_vector(kWidth, [&](std::int64_t i, int n) { store_n(packed + p * kWidth + i, load_n(from + p * depth_stride + i, n), n); });
      }
    } else {
      for (std::int64_t p = 0; p < depth; p++) {
        for (int i = 0; i < kWidth; i++) packed[p * kWidth + i] = i < rows ? load_one(from + p * depth_stride + i) : 0.0f;
      }
    }
    return;
  }
  std::int64_t p = 0;
#if defined(__AVX512F__)
  // 16 columns of depth at a time, 16 (or the 8 of a narrow panel) rows at a time.
  for (; p + 16 <= depth; p += 16) {
    for (int i0 = 0; i0 < kWidth; i0 += 16) {
      constexpr int kRows = kWidth < 16 ? kWidth : 16;
      __m512 block[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) {
        const bool exists = i < kRows && i0 + i < rows;
        block[i] = exists ? load(from + (i0 + i) * row_stride + p) : _mm512_setzero_ps();
      }
      store_transposed<kWidth>(block, packed + p * kWidth + i0);
    }
  }
#endif
  for (std::int64_t i = 0; i < kWidth; i++) {
    for (std::int64_t q = p; q < depth; q++) {
      packed[q * kWidth + i] = i < rows ? load_one(from + i * row_stride + q * depth_stride) : 0.0f;
    }
  }
}

#if defined(__AVX512F__)
/// Words of two numbers; behind an odd depth stands a 0.
template <int kWidth>
__attribute__((noinline)) static void pack_panel(const BFloat16* from, std::int64_t row_stride, std::int64_t depth_stride,
                                                 std::int64_t rows, std::int64_t depth, Pair* packed) {
  if (row_stride == 1) {
    for (std::int64_t p = 0; p < depth; p += 2) {
      const BFloat16* low = from + p * depth_stride;
      each_vector(kWidth, [&](std::int64_t i, int n) {
        const int valid = static_cast<int>(max_of(0, min_of(n, rows - i)));
        const __m512i first = _mm512_cvtepu16_epi32(load_halves_first(low + i, valid));
        const __m512i second = _mm512_cvtepu16_epi32(load_halves_first(low + depth_stride + i, p + 1 < depth ? valid : 0));
        const __m512i words = _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
        _mm512_mask_storeu_epi32(packed + p / 2 * kWidth + i, static_cast<__mmask16>((1u << n) - 1), words);
      });
    }
    return;
  }
  std::int64_t p = 0;
  for (; p + 32 <= depth; p += 32) {
    for (int i0 = 0; i0 < kWidth; i0 += 16) {
      constexpr int kRows = kWidth < 16 ? kWidth : 16;
      __m512 block[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) {
        const bool exists = i < kRows && i0 + i < rows;
        block[i] = exists ? _mm512_loadu_ps(from + (i0 + i) * row_stride + p) : _mm512_setzero_ps();
      }
      store_transposed<kWidth>(block, packed + p / 2 * kWidth + i0);
    }
  }
  const BFloat16 zero{0};
  for (std::int64_t i = 0; i < kWidth; i++) {
    const BFloat16* row = from + i * row_stride;
    for (std::int64_t q = p; q < depth; q += 2) {
      packed[q / 2 * kWidth + i] = {i < rows ? row[q] : zero, i < rows && q + 1 < depth ? row[q + 1] : zero};
    }
  }
}
#endif

}  // namespace raylite::RL_ISA
