// The key-value cache of decoding: appending to it, and attention over it. The cache is cut into blocks of 64 tokens that
// sequences hold by a table, so that memory is given as sequences grow and beginnings can be shared.
// N rows, S slots of M blocks each, B blocks of T = 64 tokens, H query heads, G key-value heads, C head dim.
#pragma once
#include <cstdint>

#include "core/ops/attention.h"

namespace raylite {

constexpr std::int64_t kCacheBlockTokens = 64;

/// Where row i lies: token positions[i] % T of block blocks[slots[i]][positions[i] / T]. What lies outside fails the run.
struct CachePlaces {
  const std::int32_t* slots;
  const std::int32_t* positions;
  const std::int32_t* blocks;  // [S,M]
  std::int64_t s, m, b;
};

/// Row i of k and v goes to its place: cacheK[block][G*C][T], so that the keys of a block lie side by side, and
/// cacheV[block][T][G*C].
template <class T>
struct KvAppendArguments {
  const T* k;
  const T* v;
  CachePlaces places;
  T* cache_k;
  T* cache_v;
  std::int64_t n, kv_heads, head_dim;
  HeadLayout k_layout, v_layout;
};

/// o[N,H*C]: row i attends to positions max(0, positions[i] - window + 1) .. positions[i] of its slot (window 0: from 0).
/// Without a window the sums are those of `attention` over the same sequence alone, to the bit.
template <class T>
struct AttentionCachedArguments {
  const T* q;
  const T* cache_k;
  const T* cache_v;
  CachePlaces places;
  T* o;
  std::int64_t n, heads, kv_heads, head_dim, window;
  HeadLayout q_layout;
  float scale;
};

}  // namespace raylite
