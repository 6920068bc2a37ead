// Heads of a row dealt out to the ranks of a sequence group, and back (DeepSpeed-Ulysses, arXiv:2309.14509): what lies on either side of
// an all-to-all exchange. N rows of this rank, H query heads, G key-value heads, C head dim, P parts.
#pragma once
#include <cstdint>

#include "core/ops/attention.h"

namespace raylite {

/// y[P*N, W]: for each part in turn the rows of x with that part's heads alone: its H/P heads of q, then its G/P of k and of v. With fewer
/// key-value heads than parts (P a multiple of G) every part has the one that its query heads read. G 0: q alone.
template <class T>
struct HeadsToPartsArguments {
  const T* q;
  const T* k;
  const T* v;
  T* y;
  std::int64_t n, parts, heads, kv_heads, head_dim;
  HeadLayout q_layout, k_layout, v_layout;
};

/// The inverse; a key-value head that several parts have becomes the sum of theirs.
template <class T>
struct PartsToHeadsArguments {
  const T* y;
  T* q;
  T* k;
  T* v;
  std::int64_t n, parts, heads, kv_heads, head_dim;
  HeadLayout q_layout, k_layout, v_layout;
};

}  // namespace raylite
