// Packs rows of a strided matrix into a micropanel: element (i, p) goes to packed[p * kWidth + i], rows beyond `rows`
// become 0. One of the strides is 1.
#pragma once
#include "cpu/simd.h"

namespace raylite::RL_ISA {

#if defined(__AVX512F__)
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
#endif

template <int kWidth>
__attribute__((noinline)) static void pack_panel(const float* from, std::int64_t row_stride, std::int64_t depth_stride,
                                                 std::int64_t rows, std::int64_t depth, float* packed) {
  if (row_stride == 1) {
    // Already in the panel's order: copy kWidth floats at a time.
    if (rows == kWidth) {
      for (std::int64_t p = 0; p < depth; p++) {
        __builtin_memcpy(packed + p * kWidth, from + p * depth_stride, kWidth * sizeof(float));
      }
    } else {
      for (std::int64_t p = 0; p < depth; p++) {
        for (int i = 0; i < kWidth; i++) packed[p * kWidth + i] = i < rows ? from[p * depth_stride + i] : 0.0f;
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
        block[i] = exists ? _mm512_loadu_ps(from + (i0 + i) * row_stride + p) : _mm512_setzero_ps();
      }
      transpose(block);
#pragma GCC unroll 16
      for (int q = 0; q < 16; q++) {
        float* to = packed + (p + q) * kWidth + i0;
        if (kWidth < 16) {
          _mm256_storeu_ps(to, _mm512_castps512_ps256(block[q]));
        } else {
          _mm512_storeu_ps(to, block[q]);
        }
      }
    }
  }
#endif
  for (std::int64_t i = 0; i < kWidth; i++) {
    for (std::int64_t q = p; q < depth; q++) packed[q * kWidth + i] = i < rows ? from[i * row_stride + q * depth_stride] : 0.0f;
  }
}

}  // namespace raylite::RL_ISA
