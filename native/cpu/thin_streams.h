// How a thin product reads B: front to back, so that memory is read as fast as it can be. Of a B [k, n] some rows go by over
// sums that stay in the first-level cache; of a B [n, k] sixteen rows at a time are turned in registers. Every element of the
// sums is added up in the order of its depth. Words of A are floats, or pairs of bf16 that follow each other in depth.
// What comes next is fetched into the second-level cache meanwhile: runs of B are too short for the CPU to find out by itself.
#pragma once
#include "cpu/block_product.h"
#include "cpu/gemm_blocking.h"
#include "cpu/pack.h"

namespace raylite::RL_ISA {

namespace {

/// Memory that is needed soon: of it as much is fetched, front to back, as is multiplied meanwhile.
class Ahead {
 public:
  explicit Ahead(const void* begin) : at_(static_cast<const std::uint8_t*>(begin)) {}
  template <int kLines>
  RL_MEMBER void fetch() {
#pragma GCC unroll 16
    for (int line = 0; line < kLines; line++) __builtin_prefetch(at_ + line * kLine, 0, 2);
    at_ += kLines * kLine;
  }

 private:
  static constexpr int kLine = 64;
  const std::uint8_t* at_;  // may point behind B: what does not exist is not fetched
};

/// Calls f with the largest of 8, 4, 2, 1 rows of A that are left, as a constant, until none is.
template <class F>
RL_INLINE void each_rows(std::int64_t m, F f) {
  std::int64_t i = 0;
  for (; i + 8 <= m; i += 8) f(i, std::integral_constant<int, 8>{});
  if (m - i >= 4) f(i, std::integral_constant<int, 4>{}), i += 4;
  if (m - i >= 2) f(i, std::integral_constant<int, 2>{}), i += 2;
  if (m - i >= 1) f(i, std::integral_constant<int, 1>{});
}

/// A block of A [rows `a_row` apart] as it is read: kM words of one depth after the other, at places that are known.
template <int kM, int kDepth, class Word>
struct NearWords {
  alignas(64) Word at[kDepth][kM];
  RL_MEMBER NearWords(const Word* a, std::int64_t a_row) {
    for (int i = 0; i < kM; i++) {
      for (int q = 0; q < kDepth; q++) at[q][i] = a[i * a_row + q];
    }
    asm("" : "+m"(at));  // else they are read from where they were
  }
};

/// sums[kM, columns] += a[kM, kDepth] b[kDepth, columns] for kVectors vectors of columns (of one, n of them exist): rows `b_row` and
/// `stride` apart. The rows behind are fetched.
template <int kVectors, int kM, int kDepth, class T>
RL_INLINE void add_vectors_of_b(const NearWords<kM, kDepth, float>& a, const T* b, std::int64_t b_row, int n, float* sums,
                                std::int64_t stride) {
  Floats totals[kM][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kM; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) totals[i][v] = load_n(sums + i * stride + v * kLanes, n);
  }
#pragma GCC unroll 8
  for (int q = 0; q < kDepth; q++) {
    Floats words[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) {
      if constexpr (kDepth > 1) __builtin_prefetch(b + (kDepth + q) * b_row + v * kLanes, 0, 2);
      words[v] = load_n(b + q * b_row + v * kLanes, n);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kM; i++) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) totals[i][v] = add_words(totals[i][v], &a.at[q][i], words[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kM; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) store_n(sums + i * stride + v * kLanes, totals[i][v], n);
  }
}

/// The same for all columns: where there are registers, two vectors at a time, so that a number of A is read once for both.
template <int kM, int kDepth, class T>
RL_INLINE void add_rows_of_b(const float* a, std::int64_t a_row, const T* b, std::int64_t b_row, std::int64_t columns,
                             float* sums, std::int64_t stride) {
  const NearWords<kM, kDepth, float> words(a, a_row);
  std::int64_t j = 0;
  if constexpr (kLanes == 16) {
    for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
      add_vectors_of_b<2>(words, b + j, b_row, kLanes, sums + j, stride);
    }
  }
  each_vector(columns - j, [&](std::int64_t at, int n) {
    add_vectors_of_b<1>(words, b + j + at, b_row, n, sums + j + at, stride);
  });
}

/// sums[m, columns] += a[m, depth] b[depth, columns].
template <class T>
void stream_plain(std::int64_t m, std::int64_t depth, std::int64_t columns, const float* a, std::int64_t a_row, const T* b,
                  std::int64_t b_row, float* sums, std::int64_t stride) {
  std::int64_t p = 0;
  for (; p + 8 <= depth; p += 8) {
    each_rows(m, [&](std::int64_t i, auto rows) {
      add_rows_of_b<rows.value, 8>(a + i * a_row + p, a_row, b + p * b_row, b_row, columns, sums + i * stride, stride);
    });
  }
  for (; p < depth; p++) {
    each_rows(m, [&](std::int64_t i, auto rows) {
      add_rows_of_b<rows.value, 1>(a + i * a_row + p, a_row, b + p * b_row, b_row, columns, sums + i * stride, stride);
    });
  }
}

#if defined(__AVX512F__)

/// Of 32 columns of two rows of B, the pairs of 16 of them; the others are in the sibling. Both keep an order of their own.
RL_INLINE Floats low_pairs(__m512i first, __m512i second) { return _mm512_castsi512_ps(_mm512_unpacklo_epi16(first, second)); }
RL_INLINE Floats high_pairs(__m512i first, __m512i second) { return _mm512_castsi512_ps(_mm512_unpackhi_epi16(first, second)); }

/// The sums of 32 columns in that order, put into the order of the columns.
RL_INLINE void order_pairs(float* sums) {
  const Floats low = load(sums), high = load(sums + 16);
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  store(sums, _mm512_permutex2var_ps(low, first, high));
  store(sums + 16, _mm512_permutex2var_ps(low, second, high));
}

/// Up to 32 numbers of a row, the rest 0.
RL_INLINE __m512i load_row(const BFloat16* row, std::int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(row);
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << count) - 1), row);
}

/// As add_rows_of_b, for `kWords` pairs of rows (of the last the second may not exist); columns in the order of the pairs.
template <int kM, int kWords>
RL_INLINE void add_pairs_of_b(const Pair* a, std::int64_t a_row, const BFloat16* b, std::int64_t b_row, bool has_second,
                              std::int64_t columns, float* sums, std::int64_t stride) {
  const NearWords<kM, kWords, Pair> near(a, a_row);
  for (std::int64_t j = 0; j < columns; j += 32) {
    Floats totals[kM][2];
#pragma GCC unroll 8
    for (int i = 0; i < kM; i++) totals[i][0] = load(sums + i * stride + j), totals[i][1] = load(sums + i * stride + j + 16);
#pragma GCC unroll 8
    for (int q = 0; q < kWords; q++) {
      const BFloat16* row = b + 2 * q * b_row + j;
      if constexpr (kWords > 1) {
        __builtin_prefetch(row + 2 * kWords * b_row, 0, 2);
        __builtin_prefetch(row + (2 * kWords + 1) * b_row, 0, 2);
      }
      const __m512i first = load_row(row, columns - j);
      const __m512i second = has_second ? load_row(row + b_row, columns - j) : _mm512_setzero_si512();
      const Floats words[2] = {low_pairs(first, second), high_pairs(first, second)};
#pragma GCC unroll 8
      for (int i = 0; i < kM; i++) {
        totals[i][0] = add_words(totals[i][0], &near.at[q][i], words[0]);
        totals[i][1] = add_words(totals[i][1], &near.at[q][i], words[1]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kM; i++) store(sums + i * stride + j, totals[i][0]), store(sums + i * stride + j + 16, totals[i][1]);
  }
}

/// The same on pairs; `depth` counts numbers. Sums, zero before, are of a multiple of 32 columns.
void stream_plain(std::int64_t m, std::int64_t depth, std::int64_t columns, const Pair* a, std::int64_t a_row,
                  const BFloat16* b, std::int64_t b_row, float* sums, std::int64_t stride) {
  std::int64_t p = 0;
  const auto go_by = [&](auto pairs) {
    for (; p + 2 * pairs.value <= depth; p += 2 * pairs.value) {
      each_rows(m, [&](std::int64_t i, auto rows) {
        add_pairs_of_b<rows.value, pairs.value>(a + i * a_row + p / 2, a_row, b + p * b_row, b_row, true, columns, sums + i * stride, stride);
      });
    }
  };
  if (m >= 8) go_by(std::integral_constant<int, 8>{});  // many sums: they are read and written half as often
  go_by(std::integral_constant<int, 4>{});
  for (; p < depth; p += 2) {
    each_rows(m, [&](std::int64_t i, auto rows) {
      add_pairs_of_b<rows.value, 1>(a + i * a_row + p / 2, a_row, b + p * b_row, b_row, p + 1 < depth, columns, sums + i * stride, stride);
    });
  }
  for (std::int64_t i = 0; i < m; i++) {
    for (std::int64_t j = 0; j < columns; j += 32) order_pairs(sums + i * stride + j);
  }
}

/// 16 words of a row, of which `count` numbers exist; the rest is 0.
template <class Word, class T>
RL_INLINE __m512 load_sixteen(const T* row, std::int64_t count) {
  if constexpr (std::is_same_v<Word, Pair>) {
    return _mm512_castsi512_ps(load_row(row, count));
  } else {
    return count >= 16 ? load(row) : load_first(row, static_cast<int>(count));
  }
}

/// 16 words of each of 16 rows of B, turned; rows beyond `rows` are 0.
template <class Word, class T>
RL_INLINE void load_turned(const T* b, std::int64_t b_col, std::int64_t rows, std::int64_t count, __m512 block[16]) {
  if (rows >= 16) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) block[i] = load_sixteen<Word>(b + i * b_col, count);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) block[i] = i < rows ? load_sixteen<Word>(b + i * b_col, count) : _mm512_setzero_ps();
  }
  transpose(block);
}

template <int kM, class Word, class T>
RL_INLINE void multiply_turned(std::int64_t depth, std::int64_t rows, const Word* a, std::int64_t a_row, const T* b,
                               std::int64_t b_col, float* sums, std::int64_t stride, Ahead& ahead) {
  constexpr std::int64_t kNumbers = 16 * kNumbersOf<Word>;
  Floats totals[kM];
#pragma GCC unroll 8
  for (int i = 0; i < kM; i++) totals[i] = Floats{};
  __m512 block[16];
  std::int64_t p = 0;
  for (; p + kNumbers <= depth; p += kNumbers) {
    ahead.fetch<kNumbers * sizeof(T) / 4>();
    load_turned<Word>(b + p, b_col, rows, kNumbers, block);
    const Word* words = a + p / kNumbersOf<Word>;
#pragma GCC unroll 16
    for (int q = 0; q < 16; q++) {
#pragma GCC unroll 8
      for (int i = 0; i < kM; i++) totals[i] = add_words(totals[i], words + i * a_row + q, block[q]);
    }
  }
  if (p < depth) {
    load_turned<Word>(b + p, b_col, rows, depth - p, block);
    const Word* words = a + p / kNumbersOf<Word>;
    const std::int64_t left = words_of<Word>(depth - p);
    for (std::int64_t q = 0; q < left; q++) {
#pragma GCC unroll 8
      for (int i = 0; i < kM; i++) totals[i] = add_words(totals[i], words + i * a_row + q, block[q]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kM; i++) store(sums + i * stride, totals[i]);
}

#endif

/// sums[m, columns] = a[m, depth] b^T, b [columns, depth] with rows b_col apart; `depth` counts numbers. Sums are of a
/// multiple of 16 columns. Meanwhile as much is fetched of what is ahead.
template <class Word, class T>
void stream_turned(std::int64_t m, std::int64_t depth, std::int64_t columns, const Word* a, std::int64_t a_row, const T* b,
                   std::int64_t b_col, float* sums, std::int64_t stride, [[maybe_unused]] Ahead& ahead) {
#if defined(__AVX512F__)
  for (std::int64_t j = 0; j < columns; j += 16) {
    each_rows(m, [&](std::int64_t i, auto rows) {
      multiply_turned<rows.value>(depth, columns - j, a + i * a_row, a_row, b + j * b_col, b_col, sums + i * stride + j, stride, ahead);
    });
  }
#else
  float turned[kLanes];
  for (std::int64_t j = 0; j < columns; j += kLanes) {
    const std::int64_t rows = min_of(kLanes, columns - j);
    for (std::int64_t i = 0; i < m; i++) store(sums + i * stride + j, Floats{});
    for (std::int64_t p = 0; p < depth; p++) {
      for (std::int64_t lane = 0; lane < kLanes; lane++) turned[lane] = lane < rows ? load_one(b + (j + lane) * b_col + p) : 0.0f;
      for (std::int64_t i = 0; i < m; i++) {
        store(sums + i * stride + j, add_words(load(sums + i * stride + j), a + i * a_row + p, load(turned)));
      }
    }
  }
#endif
}

}  // namespace

}  // namespace raylite::RL_ISA
