// The key-value cache of decoding: appending to it, and attention over it.
// N rows, B slots of P positions, H query heads, G key-value heads, C head dim.
#pragma once
#include <cstdint>

#include "core/ops/attention.h"

namespace raylite {

/// cache[slots[i]][positions[i]] = the key-value heads of row i. A slot or position outside of the cache fails the run.
struct KvAppendArguments {
  const float* k;
  const float* v;
  const std::int32_t* slots;
  const std::int32_t* positions;
  float* cache_k;
  float* cache_v;
  std::int64_t n, b, p, kv_heads, head_dim;
  HeadLayout k_layout, v_layout;
};

/// o[N,H*C]: row i attends to cache[slots[i]][max(0, positions[i] - window + 1) .. positions[i]] (window 0: from 0).
struct AttentionCachedArguments {
  const float* q;
  const float* cache_k;
  const float* cache_v;
  const std::int32_t* slots;
  const std::int32_t* positions;
  float* o;
  std::int64_t n, b, p, heads, kv_heads, head_dim, window;
  HeadLayout q_layout;
  float scale;
};

}  // namespace raylite
