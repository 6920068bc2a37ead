// Philox4x32-10, a random generator without state (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11,
// section 3.3): every value is a function of a key and a counter alone, so that any thread can make any part of a mask, once
// or again. The same bits on every instruction set.
#pragma once
#include "cpu/simd.h"

namespace raylite::RL_ISA {

typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));

/// low and high half of a * m per lane.
RL_INLINE void multiply_wide(Words a, std::uint32_t m, Words& low, Words& high) {
#if defined(__AVX512F__)
  const __m512i x = reinterpret_cast<__m512i>(a);
  const __m512i factor = _mm512_set1_epi32(static_cast<int>(m));
  const __m512i even = _mm512_mul_epu32(x, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
  low = reinterpret_cast<Words>(_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32)));
  high = reinterpret_cast<Words>(_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd));
#elif defined(__AVX2__)
  const __m256i x = reinterpret_cast<__m256i>(a);
  const __m256i factor = _mm256_set1_epi32(static_cast<int>(m));
  const __m256i even = _mm256_mul_epu32(x, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
  low = reinterpret_cast<Words>(_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa));
  high = reinterpret_cast<Words>(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa));
#else
  for (int i = 0; i < kLanes; i++) {
    const std::uint64_t product = static_cast<std::uint64_t>(a[i]) * m;
    low[i] = static_cast<std::uint32_t>(product);
    high[i] = static_cast<std::uint32_t>(product >> 32);
  }
#endif
}

/// Ten rounds; `c` holds the four words of the counter in each lane, then the four random words.
RL_INLINE void philox(Words c[4], std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    Words low0, high0, low1, high1;
    multiply_wide(c[0], 0xD2511F53u, low0, high0);
    multiply_wide(c[2], 0xCD9E8D57u, low1, high1);
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

/// Which elements a dropout keeps: each with probability 1 - threshold / 65536, independently.
struct Masks {
  std::uint32_t key0, key1;  // the seed
  std::uint32_t step;
  std::uint32_t first_row;  // of this micro-batch, among all rows of the step
  std::uint32_t threshold;
};

constexpr std::int64_t kMaskColumns = 128;

/// `random` = seed (low word, high word), step, first row. The scale that keeps the mean is 65536 / (65536 - threshold).
RL_INLINE Masks masks_of(const std::int32_t* random, double probability) {
  const auto word = [&](int i) { return static_cast<std::uint32_t>(random[i]); };
  const std::int64_t threshold = min_of(static_cast<std::int64_t>(probability * 65536 + 0.5), 65535);
  return {word(0), word(1), word(2), word(3), static_cast<std::uint32_t>(threshold)};
}

RL_INLINE float mask_scale(const Masks& masks) { return 65536.0f / (65536.0f - static_cast<float>(masks.threshold)); }

/// Bit j of keep[0], keep[1] says whether column 128 * block + j of a row is kept. Half a word decides an element: column
/// 16 v + l of a block is half v % 2 of word v / 2 at the counter (16 * block + l, row of the step, stream, step).
RL_INLINE void mask_bits(const Masks& masks, std::uint32_t row, std::uint32_t stream, std::uint32_t block, std::uint64_t keep[2]) {
  keep[0] = keep[1] = 0;
  for (int group = 0; group < 16; group += kLanes) {
    Words c[4];
    for (int lane = 0; lane < kLanes; lane++) c[0][lane] = static_cast<std::uint32_t>(lane);
    c[0] += 16 * block + static_cast<std::uint32_t>(group);
    c[1] = Words{} + (masks.first_row + row);
    c[2] = Words{} + stream;
    c[3] = Words{} + masks.step;
    philox(c, masks.key0, masks.key1);
    for (int v = 0; v < 8; v++) {
      const Words half = v % 2 == 0 ? c[v / 2] & 0xffffu : c[v / 2] >> 16;
#if defined(__AVX512F__)
      const std::uint64_t bits = _mm512_cmpge_epu32_mask(reinterpret_cast<__m512i>(half), _mm512_set1_epi32(static_cast<int>(masks.threshold)));
#elif defined(__AVX2__)
      const __m256i dropped = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(masks.threshold)), reinterpret_cast<__m256i>(half));
      const std::uint64_t bits = ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(dropped))) & 0xffu;
#else
      std::uint64_t bits = 0;
      for (int lane = 0; lane < kLanes; lane++) bits |= static_cast<std::uint64_t>(half[lane] >= masks.threshold) << lane;
#endif
      keep[v / 4] |= bits << (16 * (v % 4) + group);
    }
  }
}

/// x where the lane's bit is set, else 0.
RL_INLINE Floats keep_lanes(Floats x, std::uint64_t bits) {
#if defined(__AVX512F__)
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), x);
#elif defined(__AVX2__)
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lane)));
#else
  for (int i = 0; i < kLanes; i++) x[i] = (bits >> i & 1) != 0 ? x[i] : 0.0f;
  return x;
#endif
}

}  // namespace raylite::RL_ISA
