// Attention of 16-bit numbers on tensor cores: where it can be used, and what starts it.
#pragma once
#include "core/ops/attention.h"
#include "cuda/queue.h"

namespace raylite::cuda {

/// Heads of up to 128 columns, all rows of heads on 16 bytes.
template <class Arguments>
bool fits_tiles(const Arguments& a) {
  const auto is_even = [](const void* p, const HeadLayout& layout) {
    return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && layout.width % 8 == 0 && layout.offset % 8 == 0 && layout.head_stride % 8 == 0;
  };
  return a.head_dim <= 128 && a.head_dim % 8 == 0 && is_even(a.q, a.q_layout) && is_even(a.k, a.k_layout) && is_even(a.v, a.v_layout) &&
         reinterpret_cast<std::uintptr_t>(a.o) % 16 == 0;
}

template <class T>
void attend_by_tiles(const AttentionArguments<T>& a, const Fault& fault, const Queue& queue);
/// `deltas`: do . o of each row and head.
template <class T>
void attend_back_by_tiles(const AttentionBackwardArguments<T>& a, const float* deltas, const Fault& fault, const Queue& queue);

}  // namespace raylite::cuda
