// What attention, its gradient and attention over a cache share: blocks of queries and keys in the first-level cache, as
// floats, or as pairs of bf16 where the CPU multiplies those; and the mask.
#pragma once
#include "core/ops/attention.h"
#include "cpu/block_product.h"
#include "cpu/online_softmax.h"
#include "cpu/philox.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

/// Rows whose products are limited to what they see of a block on the diagonal.
constexpr std::int64_t kStrip = 8;

/// Columns of a head in the block buffers: whole vectors, the last padded with zeros.
RL_INLINE std::int64_t padded_dim(std::int64_t head_dim) { return (head_dim + kLanes - 1) / kLanes * kLanes; }

RL_INLINE std::int64_t rounded(std::int64_t words) { return (words + 15) / 16 * 16; }

/// Consecutive pieces of this thread's workspace; without memory it only counts.
struct Scratch {
  float* at;
  std::int64_t words = 0;
  template <class Word = float>
  Word* take(std::int64_t count) {
    float* piece = at == nullptr ? nullptr : at + words;
    words += rounded(count);
    return reinterpret_cast<Word*>(piece);
  }
};

/// Words of depth for so many numbers.
template <class Word>
RL_INLINE std::int64_t depth_words(std::int64_t numbers) {
  return std::is_same_v<Word, float> ? numbers : (numbers + 1) / 2;
}

/// What powers and slopes are kept as between two products.
template <class Word>
using PowerOf = std::conditional_t<std::is_same_v<Word, float>, float, BFloat16>;

/// Keys that row i sees: [begin, end).
RL_INLINE Range visible(const AttentionMask& mask, std::int64_t i) {
  std::int64_t begin = mask.starts[i];
  std::int64_t end = mask.ends[i];
  if (mask.causal) end = min_of(end, i + 1);
  if (mask.window > 0) begin = max_of(begin, i - mask.window + 1);
  return {begin, end};
}

/// The part of [key, key + count) that a row sees, counted from `key`; may be empty.
RL_INLINE Range seen_of_block(const AttentionMask& mask, std::int64_t i, std::int64_t key, std::int64_t count) {
  const Range seen = visible(mask, i);
  return {max_of(seen.begin - key, 0), min_of(seen.end - key, count)};
}

/// The segments must tile the rows. Every thread finds the same; one reports.
static inline bool segments_valid(const AttentionMask& mask, std::int64_t n, const Team& team) {
  const auto expect = [&](const char* what, const std::int32_t* values, std::int64_t i, std::int64_t low, std::int64_t high) {
    if (values[i] >= low && values[i] < high) return true;
    if (team.index == 0) team.fail_value(what, i, values[i], low, high);
    return false;
  };
  for (std::int64_t begin = 0; begin < n; begin = mask.ends[begin]) {
    if (!expect("starts", mask.starts, begin, begin, begin + 1)) return false;
    if (!expect("ends", mask.ends, begin, begin + 1, n + 1)) return false;
    const std::int64_t end = mask.ends[begin];
    for (std::int64_t i = begin + 1; i < end; i++) {
      if (!expect("starts", mask.starts, i, begin, begin + 1) || !expect("ends", mask.ends, i, end, end + 1)) return false;
    }
  }
  return true;
}

/// to[rows][padded] = from, columns beyond `dim` 0: rows that a product walks along.
template <class T>
RL_INLINE void copy_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded, float* to) {
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < padded; j += kLanes) {
      const int n = static_cast<int>(min_of(kLanes, dim - j));
      store(to + i * padded + j, load_n(from + i * stride + j, n));
    }
  }
}
/// to[rows][padded]: rows that a product takes one word of depth from at a time.
template <class T>
RL_INLINE void copy_values(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded, float* to) {
  copy_rows(from, stride, rows, dim, padded, to);
}
#if defined(__AVX512F__)
/// to[rows][padded / 2].
RL_INLINE void copy_rows(const BFloat16* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded, Pair* to) {
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < padded; j += kLanes) {
      const int n = static_cast<int>(min_of(kLanes, dim - j));
      store_halves(to + (i * padded + j) / 2, load_halves_first(from + i * stride + j, n));
    }
  }
}
/// Two rows of halves side by side: lane by lane the pairs (low, high).
RL_INLINE Floats pair_up(__m256i low, __m256i high) {
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
}
/// to[(rows + 1) / 2][padded]: pairs of rows; a last one alone is paired with zeros.
RL_INLINE void copy_values(const BFloat16* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded, Pair* to) {
  for (std::int64_t i = 0; i < rows; i += 2) {
    const BFloat16* low = from + i * stride;
    for (std::int64_t j = 0; j < padded; j += kLanes) {
      const int n = static_cast<int>(min_of(kLanes, dim - j));
      const Floats words = pair_up(load_halves_first(low + j, n), load_halves_first(low + stride + j, i + 1 < rows ? n : 0));
      _mm512_storeu_ps(to + i / 2 * padded + j, words);
    }
  }
}
#endif

/// Words of a row of copy_rows.
template <class Word>
RL_INLINE std::int64_t row_words(std::int64_t padded) { return depth_words<Word>(padded); }

/// to[words of dim][kKeys] = the transpose of from[rows][dim]; columns beyond `rows` 0.
template <class T, class Word>
RL_INLINE void copy_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, Word* to) {
  pack_panel<kKeys>(from, stride, 1, rows, dim, to);
}

/// The masks of one head's dropout.
struct KeptKeys {
  Masks masks;
  std::uint32_t stream;
};

RL_INLINE KeptKeys kept_keys(const AttentionDropout& dropout, std::int64_t head) {
  return {masks_of(dropout.random, dropout.probability), dropout.stream + static_cast<std::uint32_t>(head)};
}

/// Bit j: whether row `query` keeps the key `key` + j, for kKeys keys. Keys are counted over the step, as rows are.
RL_INLINE std::uint64_t kept_bits(const KeptKeys& kept, std::int64_t query, std::int64_t key) {
  const std::int64_t column = kept.masks.first_row + key;
  const auto block = static_cast<std::uint32_t>(column / kMaskColumns);
  const int first = static_cast<int>(column % kMaskColumns);
  std::uint64_t words[4];
  mask_bits(kept.masks, static_cast<std::uint32_t>(query), kept.stream, block, words);
  if (first > kMaskColumns - kKeys) mask_bits(kept.masks, static_cast<std::uint32_t>(query), kept.stream, block + 1, words + 2);
  const std::uint64_t low = words[first / 64] >> (first % 64);
  return first % 64 == 0 ? low : low | words[first / 64 + 1] << (64 - first % 64);
}

/// Calls f with a word as an argument: Pair where T is bf16 and the CPU multiplies pairs of it, else float.
template <class T, class F>
RL_INLINE auto with_word(F f) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (has_pair_products()) return f(Pair{});
  }
#endif
  return f(0.0f);
}

/// sums[rows][padded] += powers[rows][kKeys] * values: columns [begin, end) of the powers.
template <class Word>
RL_INLINE void add_values(std::int64_t rows, std::int64_t begin, std::int64_t end, const PowerOf<Word>* powers,
                          const Word* values, std::int64_t padded, float* sums) {
  constexpr std::int64_t kPerWord = kNumbersOf<Word>;
  const std::int64_t first = begin / kPerWord;
  const Word* words = reinterpret_cast<const Word*>(powers);
  block_product<true>(rows, padded, depth_words<Word>(end) - first, words + first, kKeys / kPerWord, 1,
                      values + first * padded, padded, sums, padded);
}

}  // namespace raylite::RL_ISA
