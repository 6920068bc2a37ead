// Softmax attention inside packed segments, and its gradient, by blocks with an online softmax (arXiv:2205.14135): the
// scores never exist whole. N rows, H query heads, G key-value heads (H a multiple of G), C head dim.
#pragma once
#include <cstdint>

namespace raylite {

/// Where head h of a row of `width` columns begins: offset + h * head_stride.
struct HeadLayout {
  std::int64_t width, offset, head_stride;
};

/// Row i sees row j when starts[i] <= j < ends[i], and j <= i if causal, and j > i - window if window > 0.
struct AttentionMask {
  const std::int32_t* starts;
  const std::int32_t* ends;
  bool causal;
  std::int64_t window;
};

/// Drops keys: row i loses each key with probability p, and what it keeps counts 1 / (1 - p). `random` (seed, step, first row)
/// null: nothing is dropped. A mask is a function of seed, step, stream, head, and of row and key counted over the step.
struct AttentionDropout {
  const std::int32_t* random;
  double probability;
  std::uint32_t stream;
};

/// o[N,H*C] = dropout(softmax(scale q k^T)) v, lse[N,H] = log sum exp of the scaled scores.
/// starts and ends must be the same for all rows of a segment and the segments must tile the rows, or the run fails.
template <class T>
struct AttentionArguments {
  const T* q;
  const T* k;
  const T* v;
  AttentionMask mask;
  AttentionDropout dropout;
  T* o;
  float* lse;
  std::int64_t n, heads, kv_heads, head_dim;
  HeadLayout q_layout, k_layout, v_layout;
  float scale;
};

/// dq, dk, dv in the layouts of q, k, v; they may be one tensor. Columns that belong to no head are left as they are.
template <class T>
struct AttentionBackwardArguments {
  const T* grad_o;
  const T* o;
  const float* lse;
  const T* q;
  const T* k;
  const T* v;
  AttentionMask mask;
  AttentionDropout dropout;
  T* dq;
  T* dk;
  T* dv;
  std::int64_t n, heads, kv_heads, head_dim;
  HeadLayout q_layout, k_layout, v_layout;
  float scale;
};

}  // namespace raylite
