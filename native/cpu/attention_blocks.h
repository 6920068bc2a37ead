// What attention and its gradient share: blocks of queries and keys as floats in the first-level cache, and the mask.
#pragma once
#include "core/ops/attention.h"
#include "cpu/block_product.h"
#include "cpu/online_softmax.h"
#include "cpu/philox.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kQueries = 64;

/// Columns of a head in the block buffers: whole vectors, the last padded with zeros.
RL_INLINE std::int64_t padded_dim(std::int64_t head_dim) { return (head_dim + kLanes - 1) / kLanes * kLanes; }

/// Consecutive pieces of this thread's workspace.
struct Scratch {
  float* at;
  float* take(std::int64_t floats) {
    float* piece = at;
    at += (floats + 15) / 16 * 16;
    return piece;
  }
};

/// Keys that row i sees: [begin, end).
RL_INLINE Range visible(const AttentionMask& mask, std::int64_t i) {
  std::int64_t begin = mask.starts[i];
  std::int64_t end = mask.ends[i];
  if (mask.causal) end = min_of(end, i + 1);
  if (mask.window > 0) begin = max_of(begin, i - mask.window + 1);
  return {begin, end};
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

/// to[rows][padded] = from * scale, columns beyond `dim` 0.
template <class T>
RL_INLINE void copy_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded,
                         float scale, float* to) {
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < padded; j += kLanes) {
      const int n = static_cast<int>(min_of(kLanes, dim - j));
      store(to + i * padded + j, load_n(from + i * stride + j, n) * scale);
    }
  }
}

/// to[dim][kKeys] = the transpose of from[rows][dim]; columns beyond `rows` 0.
template <class T>
RL_INLINE void copy_transposed(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, float* to) {
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

RL_INLINE std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

}  // namespace raylite::RL_ISA
