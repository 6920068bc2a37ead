// What attention over packed rows, its gradient and attention over a cache share: a warp has one query (or key) of one head.
// 32 keys at a time: scores by lane, then sums by column, so that every step of both is of a whole warp. Plain: the judge of
// faster kernels, and what runs where they do not.
#pragma once
#include "core/ops/attention.h"
#include "cuda/philox.cuh"
#include "cuda/reduce.cuh"

namespace raylite::cuda {

constexpr int kWarps = 4;  // of a block
constexpr int kWarpThreads = 32 * kWarps;

/// A row's place in shared memory, [dim], filled by the lanes of its warp.
template <class T>
__device__ inline void stage_row(const T* from, std::int64_t dim, float* to) {
  for (std::int64_t c = threadIdx.x % 32; c < dim; c += 32) to[c] = widen(from[c]);
}

template <class T>
__device__ inline float dot_row(const float* staged, const T* row, std::int64_t dim) {
  float sum = 0;
  for (std::int64_t c = 0; c < dim; c++) sum += staged[c] * widen(row[c]);
  return sum;
}

/// Rows [begin, end) of keys that a row sees, inside of 0..n whatever the tensors hold.
struct Seen {
  std::int64_t begin, end;
};
__device__ inline Seen seen_by(const AttentionMask& mask, std::int64_t i, std::int64_t n) {
  std::int64_t begin = mask.starts[i], end = mask.ends[i];
  if (mask.causal && end > i + 1) end = i + 1;
  if (mask.window > 0 && begin < i - mask.window + 1) begin = i - mask.window + 1;
  return {begin < 0 ? 0 : begin, end > n ? n : end};
}
/// Rows [begin, end) of queries that see a key.
__device__ inline Seen seeing(const AttentionMask& mask, std::int64_t j, std::int64_t n) {
  std::int64_t begin = mask.starts[j], end = mask.ends[j];
  if (mask.causal && begin < j) begin = j;
  if (mask.window > 0 && end > j + mask.window) end = j + mask.window;
  return {begin < 0 ? 0 : begin, end > n ? n : end};
}

/// Segments must tile the rows: each row says the same as the one before it, or begins where that one's segment ends.
__device__ inline bool is_segment_row(const AttentionMask& mask, std::int64_t i, std::int64_t n) {
  const std::int64_t begin = mask.starts[i], end = mask.ends[i];
  if (i > 0 && mask.ends[i - 1] != i) return begin == mask.starts[i - 1] && end == mask.ends[i - 1];
  return begin == i && end > i && end <= n;
}

/// Which keys a head keeps of a query.
__device__ inline bool keeps_key(const Masks& masks, std::int64_t head, std::int64_t query, std::int64_t key) {
  if (masks.random == nullptr) return true;
  const Masks own{masks.random, masks.threshold, masks.stream + static_cast<std::uint32_t>(head)};
  return is_kept(own, static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(masks.random[3]) + key);
}

inline Masks masks_of(const AttentionDropout& dropout) { return {dropout.random, mask_threshold(dropout.probability), dropout.stream}; }
inline float kept_scale(const AttentionDropout& dropout) {
  return dropout.random == nullptr ? 1.0f : mask_scale(mask_threshold(dropout.probability));
}

/// Softmax over keys that come 32 at a time, one per lane, with the columns of a row of values split among the lanes.
template <int kPer>
struct OnlineRow {
  float top = -INFINITY, total = 0;
  float sums[kPer] = {};

  /// The weight of this lane's key under the new maximum; what was summed shrinks to it. A score that is -inf counts nothing.
  __device__ float take(float score) {
    const float most = fmaxf(top, reduce_warp<Larger>(score));
    if (most == -INFINITY) return 0.0f;
    const float shrink = expf(top - most), weight = expf(score - most);
    total = total * shrink + reduce_warp<Plus>(weight);
    RL_UNROLL
    for (int i = 0; i < kPer; i++) sums[i] *= shrink;
    top = most;
    return weight;
  }
};

/// sums[i] += the sum over `count` rows of weights[row] * values[row][lane + 32 i].
template <int kPer, class T>
__device__ inline void add_rows(float (&sums)[kPer], const float* weights, int count, const T* values, std::int64_t stride, std::int64_t dim) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int j = 0; j < count; j++) {
    const float weight = weights[j];
    RL_UNROLL
    for (int i = 0; i < kPer; i++) {
      const int c = lane + 32 * i;
      if (c < dim) sums[i] += weight * widen(values[j * stride + c]);
    }
  }
}

template <int kPer, class T>
__device__ inline void store_row(T* to, const float (&sums)[kPer], float factor, std::int64_t dim) {
  RL_UNROLL
  for (int i = 0; i < kPer; i++) {
    const int c = static_cast<int>(threadIdx.x % 32) + 32 * i;
    if (c < dim) to[c] = narrow<T>(sums[i] * factor);
  }
}

template <int kPer>
struct Columns {
  static constexpr int value = kPer;
};

/// Calls f with how many columns of a head a lane has, as a constant: f(Columns<n>).
template <class F>
void with_columns(std::int64_t head_dim, F f) {
  if (head_dim <= 64) return f(Columns<2>{});
  if (head_dim <= 128) return f(Columns<4>{});
  if (head_dim <= 256) return f(Columns<8>{});
  return f(Columns<32>{});
}

}  // namespace raylite::cuda
